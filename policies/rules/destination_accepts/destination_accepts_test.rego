package drover.rules.destination_accepts_test

import data.drover.lib.example_test as example
import data.drover.rules.destination_accepts

params := {"site": "south", "owners": ["alice"], "max_cpu_percent": 40, "max_memory_mib": 512}

check(request, given) := value if {
	value := destination_accepts.checks.i with input as request
		with data.drover.constraints as example.instance("destination_accepts", given)
}

with_params(change) := object.union(params, change)

arriving := example.moving("south", "south-1")

at_south := {"site": "south", "host": "south-1"}

test_welcome[owners] if {
	some owners in [["alice"], ["*"], ["bob", "alice"]]
	check(arriving, with_params({"owners": owners})).msg == "south takes all that arrives"
}

test_of_somebody_else if {
	value := check(arriving, with_params({"owners": ["bob"]}))
	value.msg == "south takes nothing of alice (rank-0)"
	value.fix == {"site": "north"}
	value.limits.avoid == {{"machine": "rank-0", "site": "south"}}
}

test_too_large if {
	value := check(arriving, with_params({"max_memory_mib": 255}))
	value.msg == "south takes machines of at most 255 MiB, rank-0 would have 256 MiB"
	value.fix == {"memory_mib": 255}
}

test_growing_there if {
	grown := example.with_machine("rank-0", object.union(at_south, {"proposed": object.union(at_south, {"cpu_percent": 60})}))
	check(grown, params).fix == {"cpu_percent": 40}
}

test_what_is_there_and_large_is_not_sent_away if {
	large := object.union(at_south, {"memory_mib": 900})
	there := example.audited("rank-0", large)
	not check(there, params).ok
	check(object.union(there, {"point": "request"}), params).ok
}

test_large_elsewhere_keeps_the_planner_away if {
	value := check(example.proposing("rank-0", {"memory_mib": 900}), params)
	value.ok
	value.limits.avoid == {{"machine": "rank-0", "site": "south"}}
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {"site": {"site": null}, "owners": {"owners": "*"}, "size": {"max_memory_mib": "9"}}
	not check(example.request, with_params(change))
}
