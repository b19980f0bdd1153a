package drover.rules.anti_affinity_test

import data.drover.lib.example_test as example
import data.drover.rules.anti_affinity

params := {"group": "rank", "apart": "host", "max_together": 1}

check(request, given) := value if {
	value := anti_affinity.checks.i with input as request
		with data.drover.constraints as example.instance("anti_affinity", given)
}

with_params(change) := object.union(params, change)

both(host) := object.union(example.proposing_all({"site": "south", "host": host}), {"point": "plan"})

test_what_is_together_stays if check(example.request, params).ok

test_nothing_arrives_at_a_full_place[apart] if {
	some apart, message in {
		"host": "rank-0, rank-1 would share host south-1, at most 1 may",
		"site": "rank-0, rank-1 would share site south, at most 1 may",
	}
	value := check(both("south-1"), with_params({"apart": apart}))
	not value.ok
	value.msg == message
}

test_two_may_where_two_may if check(both("south-1"), with_params({"max_together": 2})).ok

test_another_group_is_another if check(both("south-1"), with_params({"group": "web"})).ok

test_all_machines if not check(both("south-1"), with_params({"group": "*"})).ok

test_the_planner_is_kept_away if {
	apart := example.with_machine("rank-1", {
		"site": "south",
		"host": "south-1",
		"proposed": {"site": "south", "host": "south-1"},
	})
	check(apart, params).limits.avoid == {{"machine": "rank-0", "host": "south-1"}}
	check(apart, with_params({"apart": "site"})).limits.avoid == {{"machine": "rank-0", "site": "south"}}
}

test_the_planner_places_several_apart if {
	two := object.union(example.request, {"request": {"machines": ["rank-0", "rank-1"], "kind": "move"}})
	check(two, params).limits.apart == {{"machines": ["rank-0", "rank-1"], "per": "host", "most": 1}}
	check(example.request, params).limits.apart == set()
}

test_an_audit_tells if not check(example.audited("rank-0", {}), params).ok

test_broken_parameters_give_no_value[what] if {
	some what, change in {"place": {"apart": "rack"}, "number": {"max_together": "1"}, "group": {"group": null}}
	not check(example.request, with_params(change))
}
