package drover.rules.move_occupancy_test

import data.drover.lib.example_test as example
import data.drover.rules.move_occupancy

params := {"per": "environment", "max_machines": 1, "max_cpu_percent": 100, "max_memory_mib": 512, "max_disk_gib": 4}

check(request, given) := value if {
	value := move_occupancy.checks.i with input as request
		with data.drover.constraints as example.instance("move_occupancy", given)
}

with_params(change) := object.union(params, change)

test_one_move if check(example.moving("south", "south-1"), params).msg == "moves stay within their budget"

test_a_second_one[per] if {
	some per, change in {
		"environment": {"environment": {"moving": {"machines": 1, "memory_mib": 256}}},
		"owner": {"owner": {"moving": {"machines": 1, "memory_mib": 256}}},
	}
	value := check(object.union(example.moving("south", "south-1"), change), with_params({"per": per}))
	not value.ok
	value.msg == "moves would hold 2 of machines twice, at most 1 are budgeted"
}

test_growing_on_the_way_counts if {
	moving := example.moving("south", "south-1")
	grown := object.union(moving, {"environment": {"machines": [object.union(machine, {"proposed": object.union(
		machine.proposed,
		{"memory_mib": 600},
	)}) |
		some machine in moving.environment.machines
	]}})
	check(grown, params).params.over == {"memory_mib": {"running": 0, "after": 600, "max": 512}}
}

test_what_stays_needs_no_budget if {
	check(example.proposing("rank-0", {"memory_mib": 9999}), with_params({"max_machines": 0})).ok
}

test_an_unknown_scope_gives_no_value if not check(example.request, with_params({"per": "site"}))
