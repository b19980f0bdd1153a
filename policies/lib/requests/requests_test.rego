package drover.lib.requests_test

import data.drover.lib.example_test as example
import data.drover.lib.requests

test_kinds_that_give_back[kind] if {
	some kind in {"release", "destroy", "repair"}
	requests.relinquishes({"kind": kind}, example.request.environment)
}

test_a_shrink_gives_back if {
	requests.relinquishes({"kind": "resize"}, example.proposing("rank-0", {"memory_mib": 192}).environment)
}

test_a_slower_link_gives_back if {
	requests.relinquishes({"kind": "rate"}, example.rate(100).environment)
}

test_a_faster_link_takes if {
	not requests.relinquishes({"kind": "rate"}, example.rate(300).environment)
}

test_growth_takes if {
	not requests.relinquishes({"kind": "resize"}, example.proposing("rank-0", {"memory_mib": 320}).environment)
}

test_a_mixed_request_takes if {
	not requests.relinquishes(
		{"kind": "resize"},
		example.proposing("rank-0", {"memory_mib": 192, "cpu_percent": 60}).environment,
	)
}

test_scaling_in_gives_back if {
	gone := {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}
	requests.relinquishes({"kind": "scale"}, example.proposing("rank-1", gone).environment)
}

test_nothing_changed_is_no_giving_back if {
	not requests.relinquishes({"kind": "resize"}, example.request.environment)
}
