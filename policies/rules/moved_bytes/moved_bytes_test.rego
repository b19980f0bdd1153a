package drover.rules.moved_bytes_test

import data.drover.lib.example_test as example
import data.drover.rules.moved_bytes

params := {"per": "owner", "max_bytes": 1000001000}

check(request, given) := value if {
	value := moved_bytes.checks.i with input as request
		with data.drover.constraints as example.instance("moved_bytes", given)
}

with_params(change) := object.union(params, change)

moving := example.moving("south", "south-1")

test_exactly_full if check(moving, params).ok

test_one_byte_more if {
	value := check(object.union(moving, {"owner": {"moved_bytes": 1000000001}}), params)
	value.msg == "moves of the owner would have copied 1000001001 bytes in a day, at most 1000001000 may"
}

test_of_the_environment if {
	behind := example.after_moves(moving, [example.moved("rank-1", 1, "guest"), example.moved("rank-1", 2, "guest")])
	check(behind, {"per": "environment", "max_bytes": 3000}).ok
	not check(behind, {"per": "environment", "max_bytes": 2999}).ok
}

test_a_plan_that_copies_nothing_passes if {
	check(object.union(moving, {"plan": {"bytes": 0}, "owner": {"moved_bytes": 9000000000}}), params).ok
}

test_an_audit_tells if not check(example.audited("rank-0", {}), with_params({"max_bytes": 1})).ok

test_broken_parameters_give_no_value[what] if {
	some what, change in {"per": {"per": "site"}, "number": {"max_bytes": "1"}}
	not check(moving, with_params(change))
}

test_lost_rows_give_no_value if {
	not check(
		object.union(moving, {"environment": {"moves": {"total": 1}}}),
		{"per": "environment", "max_bytes": 1},
	)
}
