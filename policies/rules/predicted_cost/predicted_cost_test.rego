package drover.rules.predicted_cost_test

import data.drover.lib.example_test as example
import data.drover.rules.predicted_cost

params := {"max_ms": 10000, "max_bytes": 1000, "max_move_bytes": 1000}

check(request, given) := value if {
	value := predicted_cost.checks.i with input as request
		with data.drover.constraints as example.instance("predicted_cost", given)
}

with_params(change) := object.union(params, change)

moving := example.moving("south", "south-1")

test_before_there_is_a_plan if check(example.request, params).ok

test_cheap_enough if check(moving, params).msg == "the plan costs no more than it may"

test_too_much[limit] if {
	some limit, message in {
		"max_ms": "the plan would take 9000 ms, at most 10 are allowed",
		"max_bytes": "the plan would take 1000 bytes, at most 10 are allowed",
		"max_move_bytes": "moving rank-0 would take 1000 bytes, at most 10 are allowed",
	}
	value := check(moving, with_params({limit: 10}))
	not value.ok
	value.msg == message
}

test_what_is_no_number_gives_no_value if {
	not check(moving, with_params({"max_ms": "9"}))
	not check(object.union(moving, {"plan": {"bytes": null}}), params)
}
