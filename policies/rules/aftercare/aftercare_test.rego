package drover.rules.aftercare_test

import data.drover.lib.example_test as example
import data.drover.rules.aftercare

params := {
	"vcpus": 2,
	"cpu_percent": 50,
	"memory_mib": 1024,
	"moves": false,
	"notify": ["sue"],
	"verify": {"within_ms": 60000, "otherwise": "release"},
	"review": {"within_ms": 3600000, "otherwise": "tell"},
}

check(request, given) := value if {
	value := aftercare.checks.i with input as request
		with data.drover.constraints as example.instance("aftercare", given)
}

with_params(change) := object.union(params, change)

grown := example.proposing("rank-0", {"cpu_percent": 51})

test_below if {
	value := check(example.proposing("rank-0", {"cpu_percent": 50}), params)
	value.ok
	value.obligations == set()
	value.msg == "nothing that anything is owed for"
}

test_above if {
	value := check(grown, params)
	value.ok
	value.msg == "rank-0 would have 51 %, more than 50 %"
	value.path == "/environment/machines/0/proposed/cpu_percent"
	value.obligations == {
		{"id": "notify", "params": {"to": "sue"}},
		{"id": "verify", "params": params.verify},
		{"id": "review", "params": params.review},
	}
}

test_only_what_is_named if {
	value := check(grown, object.remove(params, ["verify", "review"]))
	value.obligations == {{"id": "notify", "params": {"to": "sue"}}}
}

test_everybody_is_told if {
	value := check(grown, object.union(object.remove(params, ["verify", "review"]), {"notify": ["sue", "ned"]}))
	count(value.obligations) == 2
}

test_a_move_when_it_counts if {
	count(check(example.moving("south", "south-1"), params).obligations) == 0
	value := check(example.moving("south", "south-1"), with_params({"moves": true}))
	count(value.obligations) == 3
	value.msg == "rank-0 would be moved"
	value.path == "/environment/machines/0/proposed/site"
}

test_giving_back_owes_nothing if {
	shrinks := example.with_machine("rank-0", {"cpu_percent": 90, "proposed": {"cpu_percent": 60}})
	count(check(shrinks, params).obligations) == 0
}

test_what_is_no_number_gives_no_value[attribute] if {
	some attribute in ["vcpus", "cpu_percent", "memory_mib"]
	not check(example.request, with_params({attribute: "1"}))
}

test_what_is_malformed_gives_no_value[what] if {
	some what, change in {"moves": {"moves": "no"}, "notify": {"notify": "sue"}}
	not check(example.request, with_params(change))
}
