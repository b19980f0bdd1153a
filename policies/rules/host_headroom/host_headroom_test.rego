package drover.rules.host_headroom_test

import data.drover.lib.example_test as example
import data.drover.rules.host_headroom

whole := {"cpu_share_percent": 100, "memory_share_percent": 100, "disk_share_percent": 100}

check_with(request, params) := value if {
	value := host_headroom.checks.i with input as request
		with data.drover.constraints as example.instance("host_headroom", params)
}

check(request) := check_with(request, whole)

with_host(request, id, change) := object.union(request, {"sites": [object.union(site, {"hosts": hosts}) |
	some site in request.sites
	hosts := [changed(host, id, change) | some host in site.hosts]
]})

changed(host, id, change) := object.union(host, change) if host.id == id

changed(host, id, _) := host if host.id != id

test_room_in_place if check(example.proposing("rank-0", {"cpu_percent": 60, "memory_mib": 1024})).ok

test_no_room_in_place if {
	value := check(with_host(
		example.proposing("rank-0", {"memory_mib": 1024}),
		"north-1",
		{"used": {"memory_mib": 1500}},
	))
	not value.ok
	value.msg == "north-1 (up) has room for 548 of memory_mib, 768 needed"
	value.fix == {"memory_mib": 804}
}

test_reservations_count if {
	not check(with_host(
		example.proposing("rank-0", {"cpu_percent": 60}),
		"north-1",
		{"reserved": {"cpu_percent": 130}},
	)).ok
}

test_what_the_host_says_counts if {
	not check(with_host(
		example.proposing("rank-0", {"memory_mib": 512}),
		"north-1",
		{"free": {"memory_mib": 200}},
	)).ok
}

test_a_move_counts_whole_at_the_destination if {
	check(example.moving("south", "south-1")).ok
	value := check(with_host(example.moving("south", "south-1"), "south-1", {"used": {"disk_gib": 19}}))
	not value.ok
	value.msg == "south-1 (up) has room for 1 of disk_gib, 2 needed"
}

test_a_degraded_host_has_no_room if {
	value := check(with_host(example.moving("south", "south-1"), "south-1", {"state": "degraded"}))
	not value.ok
	contains(value.msg, "south-1 (degraded) has room for 0 of cpu_percent")
}

test_a_share_of_what_is_lent if {
	not check_with(
		example.proposing("rank-0", {"memory_mib": 1024}),
		object.union(whole, {"memory_share_percent": 50}),
	).ok
}

test_only_the_named_site_is_judged if {
	full := with_host(example.moving("south", "south-1"), "south-1", {"used": {"cpu_percent": 200}})
	check_with(full, object.union(whole, {"site": "north"})).ok
	not check_with(full, object.union(whole, {"site": "south"})).ok
}

test_group_needs_add_up if {
	check(example.proposing_all({"cpu_percent": 60})).ok
	value := check(example.proposing_all({"cpu_percent": 120}))
	not value.ok
	value.fix == {"cpu_percent": 100}
}

test_giving_back_passes_on_a_full_host if {
	check(with_host(example.proposing("rank-0", {"memory_mib": 200}), "north-1", {"used": {"memory_mib": 9999}})).ok
}

test_an_unknown_host_gives_no_value if not check(example.moving("south", "south-9"))

test_no_host_yet_gives_no_value if not check(example.proposing("rank-0", {"site": "south", "host": ""}))

test_a_lost_share_gives_no_value if not check_with(example.request, object.remove(whole, ["disk_share_percent"]))

test_an_unknown_site_gives_no_value if not check_with(example.request, object.union(whole, {"site": "west"}))

test_a_machine_that_goes_loads_no_host if {
	gone := {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}
	check(object.union(example.proposing("rank-0", gone), example.kind("destroy"))).ok
}

# a site's owner is not shown the hosts of others
shown_to_north(request) := object.union(request, {"sites": [object.union(site, part) |
	some site in request.sites
	part := {"north": {}, "south": {"view": "none", "hosts": []}}[site.id]
]})

judge(request, params) := value if {
	value := host_headroom.checks.i with input as request
		with data.drover.constraints as example.instance("host_headroom", object.union(
			{"cpu_share_percent": 100, "memory_share_percent": 100, "disk_share_percent": 100},
			params,
		))
}

test_a_site_judges_its_own_hosts_without_the_others if {
	away := shown_to_north(example.moving("south", "south-1"))
	judge(away, {"site": "north"}).ok
	not judge(away, {})
	not judge(away, {"site": "south"})
	within := shown_to_north(example.moving("north", "north-2"))
	not judge(within, {"site": "north", "memory_share_percent": 0}).ok
}
