package drover.lib.nearest_test

import data.drover.lib.nearest

machine(now, asked) := {"site": "north", "memory_mib": now, "proposed": {"memory_mib": asked}}

test_what_is_left_is_shared if {
	nearest.size([machine(200, 900), machine(100, 900)], "memory_mib", 801) == 400
}

test_nothing_is_shared_by_machines_that_ask_for_different_sizes if {
	not nearest.size([machine(200, 900), machine(100, 800)], "memory_mib", 801)
}

test_nobody_is_made_smaller if not nearest.size([machine(500, 900), machine(100, 900)], "memory_mib", 801)

test_nothing_is_no_size if not nearest.size([machine(0, 900)], "memory_mib", 0)

test_links_share_what_is_left if {
	links := [{"rate_mbps": 10, "proposed_mbps": 300}, {"rate_mbps": 20, "proposed_mbps": 300}]
	nearest.rate(links, 250) == 125
	not nearest.rate(links, 30)
}

test_so_many_of_a_group_as_fit if {
	old := {"group": "rank", "vcpus": 1, "disk_gib": 2, "proposed": {"vcpus": 1, "memory_mib": 256}}
	new := object.union(old, {"vcpus": 0})
	over := {"machines": {"after": 5, "max": 4}, "memory_mib": {"after": 1280, "max": 700}}
	nearest.members([old, old, new, new, new], over) == 2
	not nearest.members([old, old, old, old, new], over)
	not nearest.members([old, new, object.union(new, {"group": "other"})], {"machines": {"after": 3, "max": 2}})
	not nearest.members([old, new], {"rate_mbps": {"after": 3, "max": 2}})
}

test_where_they_are_is_nearer_than_anywhere_else if nearest.site([machine(1, 1), machine(2, 2)], {"east"}) == "north"

test_what_is_nowhere_goes_to_the_first_that_is_allowed if {
	nearest.site([object.union(machine(1, 1), {"site": ""})], {"south", "east"}) == "east"
	not nearest.site([object.union(machine(1, 1), {"site": ""})], set())
}

test_half_a_fix_is_none if {
	nearest.fix({"memory_mib"}, {"memory_mib": 4}) == {"fix": {"memory_mib": 4}}
	nearest.fix({"memory_mib", "disk_gib"}, {"memory_mib": 4}) == {}
	nearest.fix(set(), {}) == {}
}

test_the_shortest_wait_and_the_first_fix if {
	nearest.wait({3, 2}) == {"fix": {"retry_after_ms": 2}}
	nearest.wait(set()) == {}
	nearest.first([{"vcpus": 1}, {"vcpus": 2}]) == {"fix": {"vcpus": 1}}
	nearest.first([]) == {}
}
