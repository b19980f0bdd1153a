package drover.lib.machines_test

import data.drover.lib.example_test as example
import data.drover.lib.machines

test_example_is_whole if machines.whole(example.request.environment.machines)

test_not_whole_without_a_number[attribute] if {
	some attribute in machines.attributes
	broken := [object.union(machine, {"proposed": {attribute: "60"}}) |
		some machine in example.request.environment.machines
	]
	not machines.whole(broken)
}

test_size_has_its_unit if machines.size("cpu_percent", 60) == "60 %"

test_what_is_gone_takes_nothing if {
	gone := object.union(
		example.machine("rank-0"),
		{"proposed": {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}},
	)
	machines.gone(gone)
	machines.changes(gone)
	not machines.takes(gone)
}

test_changes_and_takes if {
	still := example.machine("rank-0")
	grown := object.union(still, {"proposed": {"memory_mib": 512}})
	shrunk := object.union(still, {"proposed": {"memory_mib": 192}})
	moved := object.union(still, {"proposed": {"host": "north-2"}})
	not machines.changes(still)
	machines.changes(grown)
	machines.takes(grown)
	machines.changes(shrunk)
	not machines.takes(shrunk)
	machines.takes(moved)
}
