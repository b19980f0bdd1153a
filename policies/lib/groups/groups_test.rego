package drover.lib.groups_test

import data.drover.lib.example_test as example
import data.drover.lib.groups

machines := example.request.environment.machines

test_members if {
	count(groups.members("rank", machines)) == 2
	count(groups.members("*", machines)) == 2
	count(groups.members("web", machines)) == 0
}

test_what_is_destroyed_is_no_member if {
	gone := [object.union(machine, {"proposed": {"vcpus": 0}}) | some machine in machines]
	groups.members("*", gone) == []
}

test_comes if {
	still := example.machine("rank-0")
	moved := object.union(still, {"proposed": {"host": "north-2"}})
	not groups.comes(still, "host", false)
	groups.comes(still, "host", true)
	groups.comes(moved, "host", false)
}
