package drover.lib.pointers_test

import data.drover.lib.example_test as example
import data.drover.lib.pointers

test_a_field_of_a_machine if {
	machines := example.request.environment.machines
	pointers.proposed(machines, "rank-1", "site") == "/environment/machines/1/proposed/site"
}

test_the_first_or_none if {
	pointers.first({"/b", "/a"}) == {"path": "/a"}
	pointers.first(set()) == {}
}
