package drover.rules.site_quota_test

import data.drover.lib.example_test as example
import data.drover.rules.site_quota

params := {
	"site": "north",
	"per": "environment",
	"max_machines": 2,
	"max_cpu_percent": 80,
	"max_memory_mib": 1024,
	"max_disk_gib": 8,
}

check(request, given) := value if {
	value := site_quota.checks.i with input as request
		with data.drover.constraints as example.instance("site_quota", given)
}

with_params(change) := object.union(params, change)

test_within if check(example.proposing("rank-0", {"cpu_percent": 60}), params).msg == "within the site's quota"

test_too_much if {
	value := check(example.proposing("rank-0", {"cpu_percent": 61}), params)
	value.params.over == {"cpu_percent": {"before": 40, "after": 81, "max": 80}}
	value.msg == "cpu_percent of the environment at north would be 81, the quota is 80"
}

test_per_owner_and_all[per] if {
	some per, message in {
		"owner": "machines of its owner at north would be 3, the quota is 2",
		"all": "machines of everybody at north would be 4, the quota is 2",
	}
	arriving := example.with_machine("rank-0", {"site": "south", "host": "south-1"})
	contains(check(arriving, with_params({"per": per})).msg, message)
}

test_leaving_adds_nothing if check(example.moving("south", "south-1"), with_params({"max_memory_mib": 0})).ok

test_giving_back_passes if {
	check(example.proposing("rank-0", {"cpu_percent": 10}), with_params({"max_cpu_percent": 0})).ok
}

test_an_audit_tells_what_is if not check(example.audited("rank-0", {}), with_params({"max_machines": 1})).ok

test_what_is_not_shown_gives_no_value[view] if {
	some view, per in {"none": "environment", "own": "all"}
	hidden := object.union(example.request, {"sites": [object.union(site, {"view": view}) |
		some site in example.request.sites
	]})
	not check(hidden, with_params({"per": per}))
}

test_own_shares_are_enough_for_ones_own if {
	own := object.union(example.request, {"sites": [object.union(site, {"view": "own", "hosts": []}) |
		some site in example.request.sites
	]})
	check(own, with_params({"per": "owner"})).ok
}

test_an_unknown_site_gives_no_value if not check(example.request, with_params({"site": "east"}))

test_a_lost_limit_gives_no_value if not check(example.request, object.remove(params, ["max_disk_gib"]))
