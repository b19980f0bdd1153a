package drover.rules.largest_machine_test

import data.drover.lib.example_test as example
import data.drover.rules.largest_machine

limit(mib) := {"largest_machine": {"here": {"level": "deny", "params": {"max_memory_mib": mib}}}}

test_exactly_the_limit_is_allowed if {
	check := largest_machine.checks.here with input as example.proposing("rank-0", {"memory_mib": 512})
		with data.drover.constraints as limit(512)
	check.ok
}

test_beyond_the_limit_is_not_and_names_the_nearest if {
	check := largest_machine.checks.here with input as example.proposing("rank-0", {"memory_mib": 512})
		with data.drover.constraints as limit(511)
	check.ok == false
	check.fix == {"memory_mib": 511}
	check.msg == "rank-0 would have more than 511 MiB"
}

test_what_is_large_already_may_stay if {
	check := largest_machine.checks.here with input as example.proposing("rank-0", {"cpu_percent": 30})
		with data.drover.constraints as limit(1)
	check.ok
}

test_a_limit_that_is_no_number_has_no_value if {
	not largest_machine.checks.here with input as example.proposing("rank-0", {"memory_mib": 512})
		with data.drover.constraints as limit("512")
}
