# METADATA
# title: Groups
# description: Machines that a rule means by the name of their group; every helper takes what it reads
package drover.lib.groups

# * = all; machines that do not exist after the request are no members
members(group, machines) := [machine |
	some machine in machines
	_means(group, machine)
	machine.proposed.vcpus > 0
]

_means("*", _)

_means(group, machine) if machine.group == group

# the machine would newly be at its place; in an audit every place is looked at
comes(machine, place, _) if {
	machine.proposed[place] != ""
	machine.proposed[place] != machine[place]
}

comes(machine, place, true) if machine.proposed[place] != ""
