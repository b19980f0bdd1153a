package drover.rules.disruption_budget_test

import data.drover.lib.example_test as example
import data.drover.rules.disruption_budget

params := {"causes": ["guest", "operator"], "group": "*", "max_machines": 1, "window_ms": 600000}

check(request, given) := value if {
	value := disruption_budget.checks.i with input as request
		with data.drover.constraints as example.instance("disruption_budget", given)
}

with_params(change) := object.union(params, change)

moving := example.moving("south", "south-1")

behind(change) := example.after_moves(moving, [object.union(example.moved("rank-1", 900000, "operator"), change)])

test_the_first if check(moving, params).msg == "the disruption budget holds"

test_the_second if {
	value := check(behind({}), params)
	not value.ok
	value.msg == "rank-0, rank-1 would be disrupted within 600000 ms, at most 1 may"
	value.fix == {"retry_after_ms": 500000}
}

test_what_does_not_count[what] if {
	some what, change in {
		"another cause": {"cause": "stack"},
		"it failed": {"outcome": "failed"},
		"long ago": {"at_ms": 400000},
		"the same machine": {"machine": "rank-0"},
		"a machine that is gone": {"machine": "rank-9"},
	}
	check(behind(change), params).ok
}

test_two_at_once_have_no_moment_to_wait_for if {
	value := check(object.union(example.proposing_all({"site": "south", "host": "south-1"}), {"point": "plan"}), params)
	not value.ok
	not "fix" in object.keys(value)
}

test_who_moves_nothing_or_has_no_budget_passes if {
	check(example.after_moves(example.request, [example.moved("rank-1", 900000, "guest")]), with_params({"max_machines": 0})).ok
	check(object.union(behind({}), {"subject": {"type": "stack"}}), params).ok
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {
		"longer than the facts": {"window_ms": 86400001},
		"causes": {"causes": "guest"},
		"number": {"max_machines": "1"},
		"group": {"group": null},
	}
	not check(moving, with_params(change))
}

test_lost_rows_give_no_value if not check(object.union(behind({}), {"environment": {"moves": {"total": 0}}}), params)
