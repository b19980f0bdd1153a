package drover.rules.approval_threshold_test

import data.drover.lib.example_test as example
import data.drover.rules.approval_threshold

params := {"approvals": 2, "vcpus": 2, "cpu_percent": 50, "memory_mib": 1024, "plan_bytes": 1000}

check(request, given) := value if {
	value := approval_threshold.checks.i with input as request
		with data.drover.constraints as example.instance("approval_threshold", given)
}

with_params(change) := object.union(params, change)

test_below if check(example.proposing("rank-0", {"cpu_percent": 50}), params).msg == "below every threshold"

test_above if {
	value := check(example.proposing("rank-0", {"cpu_percent": 51}), params)
	not value.ok
	value.msg == "rank-0 would have 51 %, more than 50 %: 2 people must agree"
	value.params.approvals == 2
	value.fix == {"cpu_percent": 50}
	value.path == "/environment/machines/0/proposed/cpu_percent"
}

test_one_person if {
	value := check(example.proposing("rank-0", {"cpu_percent": 51}), with_params({"approvals": 1}))
	endswith(value.msg, "one person must agree")
}

test_a_costly_plan if {
	value := check(example.moving("south", "south-1"), with_params({"plan_bytes": 999}))
	value.msg == "the plan copies 1000 bytes, more than 999: 2 people must agree"
	not value.fix
}

test_what_is_above_may_shrink if {
	check(example.with_machine("rank-0", {"cpu_percent": 90, "proposed": {"cpu_percent": 60}}), params).ok
}

test_what_is_no_number_gives_no_value[attribute] if {
	some attribute in object.keys(params)
	not check(example.request, with_params({attribute: "1"}))
}
