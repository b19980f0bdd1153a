package drover.rules.adaptation_mode_test

import data.drover.lib.example_test as example
import data.drover.rules.adaptation_mode

check(request, mode) := value if {
	value := adaptation_mode.checks.i with input as request
		with data.drover.constraints as example.instance("adaptation_mode", {"mode": mode})
}

growing(mode) := example.with_machine("rank-0", {"envelope": {"mode": mode}, "proposed": {"memory_mib": 512}})

test_auto_passes if check(growing("auto"), "pinned").ok

test_each_mode_holds[mode] if {
	some mode in {"pinned", "advise", "approve"}
	value := check(growing(mode), mode)
	not value.ok
	value.msg == $"rank-0: the stack sets mode {mode}"
}

test_unchanged_machine_does_not_matter if {
	check(example.with_machine("rank-1", {"envelope": {"mode": "pinned"}}), "pinned").ok
}

test_giving_back_passes if {
	check(example.with_machine("rank-0", {"envelope": {"mode": "pinned"}, "proposed": {"memory_mib": 192}}), "pinned").ok
}

test_the_stack_passes if check(object.union(growing("pinned"), example.kind("update")), "pinned").ok

test_unknown_mode_gives_no_value if not check(growing("pinned"), "sometimes")
