package drover.rules.source_releases_test

import data.drover.lib.example_test as example
import data.drover.rules.source_releases

params := {"site": "north", "classes": ["interactive"]}

check(request, given) := value if {
	value := source_releases.checks.i with input as request
		with data.drover.constraints as example.instance("source_releases", given)
}

with_params(change) := object.union(params, change)

test_stays if {
	value := check(example.request, params)
	value.msg == "north lets go what leaves"
	value.limits.avoid == {{"machine": "rank-0", "site": "south"}}
}

test_leaves if {
	value := check(example.moving("south", "south-1"), params)
	not value.ok
	value.msg == "north does not let go of class batch (rank-0)"
	value.path == "/environment/machines/0/proposed/site"
}

test_may_leave[classes] if {
	some classes in [["batch"], ["*"]]
	value := check(example.moving("south", "south-1"), with_params({"classes": classes}))
	value.ok
	value.limits.avoid == set()
}

test_within_the_site if check(example.moving("north", "north-2"), params).ok

test_destroy_is_not_leaving if {
	gone := {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}
	check(object.union(example.proposing("rank-0", gone), example.kind("destroy")), params).ok
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {"site": {"site": null}, "classes": {"classes": "*"}}
	not check(example.request, with_params(change))
}
