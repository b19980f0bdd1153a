package drover.rules.cooldown_test

import data.drover.lib.example_test as example
import data.drover.rules.cooldown

params := {"per": "machine", "gap_ms": 30000}

check(request, given) := value if {
	value := cooldown.checks.i with input as request
		with data.drover.constraints as example.instance("cooldown", given)
}

with_params(change) := object.union(params, change)

growing := example.proposing("rank-0", {"memory_mib": 320})

row(change) := object.union(
	{
		"id": "r0",
		"at_ms": 980000,
		"subject": "rank-0",
		"kind": "resize",
		"effect": "allow",
		"machines": ["rank-0"],
	},
	change,
)

after(change) := example.after_requests(growing, [row(change)])

test_never_adapted if check(growing, params).msg == "rested long enough"

test_just_adapted if {
	value := check(after({}), params)
	not value.ok
	value.msg == "the machine was adapted less than 30000 ms ago"
	value.fix == {"retry_after_ms": 10000}
}

test_what_does_not_count[what] if {
	some what, change in {
		"denied": {"effect": "deny"},
		"long ago": {"at_ms": 970000},
		"a release": {"kind": "release"},
		"the neighbour": {"machines": ["rank-1"]},
		"a rate": {"kind": "rate", "machines": []},
	}
	check(after(change), params).ok
}

test_machines_that_are_gone_may_have_been_it if not check(after({"machines": []}), params).ok

test_all_of_the_environment if {
	value := check(after({"machines": ["rank-1"]}), with_params({"per": "environment"}))
	value.msg == "the environment was adapted less than 30000 ms ago"
}

test_giving_back_and_the_stack_pass if {
	check(example.after_requests(example.proposing("rank-0", {"memory_mib": 192}), [row({})]), params).ok
	check(object.union(after({}), example.kind("update")), params).ok
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {"longer than the facts": {"gap_ms": 3600001}, "unknown": {"per": "site"}, "text": {"gap_ms": "1"}}
	not check(growing, with_params(change))
}

test_lost_rows_give_no_value if not check(object.union(after({}), {"environment": {"recent": {"total": 2}}}), params)
