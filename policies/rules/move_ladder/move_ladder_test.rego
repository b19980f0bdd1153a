package drover.rules.move_ladder_test

import data.drover.lib.example_test as example
import data.drover.rules.move_ladder

check(request, forbid) := value if {
	value := move_ladder.checks.i with input as request
		with data.drover.constraints as example.instance("move_ladder", {"forbid": forbid})
}

test_before_planning_it_hands_out_what_is_forbidden if {
	value := check(example.request, ["throttle", "downtime"])
	value.ok
	value.limits == {"forbid_rungs": {"downtime", "throttle"}}
	value.msg == "a copy that gets nowhere is not helped by downtime, throttle"
}

test_on_the_plan_as_well if {
	check(example.moving("south", "south-1"), ["post_copy"]).limits == {"forbid_rungs": {"post_copy"}}
}

test_forbidding_nothing if {
	value := check(example.request, [])
	value.limits == {"forbid_rungs": set()}
	value.msg == "whatever helps may be done about a copy that gets nowhere"
}

test_no_list_gives_no_value if not check(example.request, "throttle")

test_a_rung_that_is_no_word_gives_no_value if not check(example.request, [1])
