package drover.rules.affinity_test

import data.drover.lib.example_test as example
import data.drover.rules.affinity

params := {"group": "rank", "together": "site", "max_places": 1}

check(request, given) := value if {
	value := affinity.checks.i with input as request
		with data.drover.constraints as example.instance("affinity", given)
}

with_params(change) := object.union(params, change)

apart := example.with_machine("rank-1", {
	"site": "south",
	"host": "south-1",
	"proposed": {"site": "south", "host": "south-1"},
})

test_together if check(example.request, params).msg == "the group stays together"

test_torn_apart if {
	value := check(example.moving("south", "south-1"), params)
	not value.ok
	value.msg == "group rank would be spread over north, south"
}

test_all_of_it_may_go if check(example.proposing_all({"site": "south", "host": ""}), params).ok

test_as_many_places_as_allowed if check(example.moving("south", "south-1"), with_params({"max_places": 2})).ok

test_one_host if {
	value := check(example.moving("north", "north-2"), with_params({"together": "host"}))
	value.msg == "group rank would be spread over north-1, north-2"
}

test_what_is_apart_is_not_driven_together if {
	check(apart, params).ok
	not check(object.union(apart, {"point": "audit"}), params).ok
}

test_the_planner_is_kept_at_home if {
	check(example.request, params).limits.avoid == {{"machine": "rank-0", "site": "south"}}
	check(example.request, with_params({"max_places": 2})).limits.avoid == set()
}

test_the_planner_keeps_them_together if {
	two := object.union(example.request, {"request": {"machines": ["rank-0", "rank-1"], "kind": "move"}})
	kept := {{"machines": ["rank-0", "rank-1"], "per": "host", "most": 1}}
	check(two, with_params({"together": "host"})).limits.together == kept
	nobody := object.union(example.request, {"request": {"machines": [], "kind": "rate"}})
	check(nobody, params).limits.together == set()
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {"place": {"together": "rack"}, "number": {"max_places": "1"}, "group": {"group": null}}
	not check(example.request, with_params(change))
}
