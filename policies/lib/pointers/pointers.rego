# METADATA
# title: Pointers
# description: Where in the input a number stands that failed, as a JSON pointer; every helper takes what it reads
package drover.lib.pointers

# to what would become of an attribute of one machine
proposed(machines, name, attribute) := $"/environment/machines/{index}/proposed/{attribute}" if {
	some index, candidate in machines
	candidate.name == name
}

# the part of a check that says where: the first of them, or nothing
first(pointers) := {"path": min(pointers)} if count(pointers) > 0

first(pointers) := {} if count(pointers) == 0
