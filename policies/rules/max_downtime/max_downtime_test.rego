package drover.rules.max_downtime_test

import data.drover.lib.example_test as example
import data.drover.rules.max_downtime

check(request, limit) := value if {
	value := max_downtime.checks.i with input as request
		with data.drover.constraints as example.instance("max_downtime", {"max_downtime_ms": limit})
}

test_before_planning_it_hands_out_the_limit if {
	check(example.request, 500).limits == {"max_downtime_ms": 500}
	check(example.request, 500).ok
}

test_fast_enough if check(example.moving("south", "south-1"), 300).ok

test_too_slow if {
	value := check(example.moving("south", "south-1"), 299)
	not value.ok
	value.msg == "moving rank-0 would stop it for 300 ms, at most 299 ms are allowed"
}

test_a_plan_point_without_a_plan_gives_no_value if {
	not check(object.union(example.request, {"point": "plan"}), 500)
}

test_a_bad_limit_gives_no_value if not check(example.request, "500")
