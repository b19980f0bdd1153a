package drover.rules.growth_factor_test

import data.drover.lib.example_test as example
import data.drover.rules.growth_factor

check(request) := value if {
	factors := {"max_factor": {"vcpus": 2, "cpu_percent": 3, "memory_mib": 2.5}}
	value := growth_factor.checks.i with input as request
		with data.drover.constraints as example.instance("growth_factor", factors)
}

test_within if check(example.proposing("rank-0", {"cpu_percent": 60, "memory_mib": 640})).ok

test_too_steep if {
	value := check(example.proposing("rank-0", {"cpu_percent": 61}))
	not value.ok
	value.msg == "61 % is too much growth for rank-0, which had 20 % within the hour; now at most 60 %"
	value.fix == {"cpu_percent": 60}
}

test_small_steps_add_up if {
	value := check(example.with_machine("rank-0", {"cpu_percent": 60, "proposed": {"cpu_percent": 70}}))
	not value.ok
	value.fix == {"cpu_percent": 60}
}

test_group_is_judged_machine_by_machine if {
	check(example.proposing_all({"cpu_percent": 60})).ok
	count(check(example.proposing_all({"cpu_percent": 90})).params.steep) == 2
}

test_the_stack_may_declare_more if {
	check(object.union(example.proposing("rank-0", {"cpu_percent": 400}), example.kind("update"))).ok
}

test_shrinking_passes if check(example.proposing("rank-0", {"cpu_percent": 10})).ok

test_a_lost_low_gives_no_value if {
	not check(example.with_machine("rank-0", {"hour_low": {"cpu_percent": null}}))
}

test_a_lost_factor_gives_no_value if {
	not growth_factor.checks.i with input as example.request
		with data.drover.constraints as example.instance("growth_factor", {"max_factor": {"vcpus": 2}})
}
