package drover.rules.envelope_test

import data.drover.lib.example_test as example
import data.drover.rules.envelope

check(request) := value if {
	value := envelope.checks.i with input as request
		with data.drover.constraints as example.instance("envelope", {})
}

test_nothing_changed if check(example.request).ok

test_within if check(example.proposing("rank-0", {"cpu_percent": 60, "memory_mib": 1024})).ok

test_above if {
	value := check(example.proposing("rank-0", {"cpu_percent": 6400}))
	not value.ok
	value.msg == "6400 % is above rank-0's 60 %"
	value.fix == {"cpu_percent": 60}
}

test_below if {
	value := check(example.proposing("rank-0", {"memory_mib": 64}))
	not value.ok
	value.msg == "64 MiB is below rank-0's 192 MiB"
	value.fix == {"memory_mib": 192}
}

test_group_names_all_and_fits_the_narrowest if {
	wide := example.proposing_all({"cpu_percent": 90})
	narrow := object.union(wide, {"environment": {"machines": [
		wide.environment.machines[0],
		object.union(wide.environment.machines[1], {"envelope": {"cpu_percent": {"max": 40}}}),
	]}})
	value := check(narrow)
	value.msg == "90 % is above rank-0's 60 %; 90 % is above rank-1's 40 %"
	value.fix == {"cpu_percent": 40}
}

test_baseline_is_always_inside if {
	check(example.with_machine("rank-0", {"cpu_percent": 60, "envelope": {"cpu_percent": {"min": 30, "max": 60}}})).ok
}

test_destroy_is_not_a_shrink if {
	gone := {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}
	check(object.union(example.proposing("rank-0", gone), example.kind("destroy"))).ok
}

test_foreign_site if {
	value := check(example.proposing("rank-0", {"site": "east"}))
	not value.ok
	value.msg == "rank-0 may not live at east"
}

test_allowed_site if check(example.proposing("rank-0", {"site": "south"})).ok

test_a_number_as_text_gives_no_value if not check(example.proposing("rank-0", {"cpu_percent": "60"}))
