package drover.rules.dominant_share_test

import data.drover.lib.example_test as example
import data.drover.rules.dominant_share

params := {"site": "north", "contended_percent": 20, "tolerance_percent": 5}

check(request, given) := value if {
	value := dominant_share.checks.i with input as request
		with data.drover.constraints as example.instance("dominant_share", given)
}

with_params(change) := object.union(params, change)

big := example.proposing_all({"memory_mib": 1280})

test_a_fair_share if {
	value := check(example.request, params)
	value.ok
	value.msg == "a share of 13 % is fair"
	value.params == {"share_percent": 13, "taken_percent": 25, "fair_percent": 55, "environments": 2}
}

test_more_than_an_equal_part if {
	value := check(big, params)
	not value.ok
	value.msg == "63 % of north is more than 55 % for each of 2 environments"
}

test_a_site_with_room_lets_anybody if check(big, with_params({"contended_percent": 75})).ok

test_nothing_added_is_nothing_unfair if {
	check(example.proposing("rank-0", {"memory_mib": 192}), with_params({"contended_percent": 0, "tolerance_percent": 0})).ok
}

test_what_stays_as_it_is_is_left_alone if {
	greedy := object.union(example.rate(300), {"sites": [object.union(site, {"hosts": [object.union(host, {"lend": {"memory_mib": 100}}) |
		some host in site.hosts
	]}) |
		some site in example.request.sites
	]})
	check(greedy, params).ok
	not check(object.union(greedy, {"point": "audit"}), params).ok
}

test_what_is_not_lent_is_more_than_all if {
	none := object.union(big, {"sites": [object.union(site, {"hosts": [object.union(host, {"lend": {
		"memory_mib": 0,
		"cpu_percent": 0,
		"disk_gib": 0,
	}}) |
		some host in site.hosts
	]}) |
		some site in example.request.sites
	]})
	check(none, params).params.share_percent == 101
}

test_a_site_that_is_not_shown_gives_no_value[change] if {
	some change in [{"view": "own"}, {"hosts": []}, {"id": "east"}]
	not check(
		object.union(example.request, {"sites": [object.union(site, change) | some site in example.request.sites]}),
		params,
	)
}
