package drover.rules.site_accepts_class_test

import data.drover.lib.example_test as example
import data.drover.rules.site_accepts_class

check(request, params) := value if {
	value := site_accepts_class.checks.i with input as request
		with data.drover.constraints as example.instance("site_accepts_class", params)
}

south := {"site": "south", "classes": ["batch"]}

sensitive := object.union(example.moving("south", "south-1"), {"environment": {"machines": [
	object.union(example.moving("south", "south-1").environment.machines[0], {"class": "sensitive"}),
	example.machine("rank-1"),
]}})

test_accepted_class if check(example.moving("south", "south-1"), south).ok

test_refused_class if {
	value := check(sensitive, south)
	not value.ok
	value.msg == "south does not take class sensitive (rank-0)"
}

test_other_sites_are_not_judged if check(sensitive, {"site": "north", "classes": []}).ok

test_who_is_there_may_stay if {
	check(example.with_machine("rank-0", {"class": "sensitive"}), {"site": "north", "classes": []}).ok
}

test_bad_parameters_give_no_value[params] if {
	some params in [{"site": "south"}, {"classes": ["batch"]}, {"site": "south", "classes": "batch"}]
	not check(sensitive, params)
}
