package drover.rules.maintenance_window_test

import data.drover.lib.example_test as example
import data.drover.rules.maintenance_window

params := {"utc_offset_minutes": 0, "windows": [{"days": ["thu"], "from_minute": 0, "until_minute": 60}]}

check(request, given) := value if {
	value := maintenance_window.checks.i with input as request
		with data.drover.constraints as example.instance("maintenance_window", given)
}

with_params(change) := object.union(params, change)

moving := example.moving("south", "south-1")

at(ms) := object.union(moving, {"now_ms": ms})

monday := with_params({"windows": [{"days": ["mon"], "from_minute": 60, "until_minute": 120}]})

# 1000000 ms after the epoch: Thursday, 00:16:40
test_within if check(moving, params).ok

test_outside if {
	value := check(moving, monday)
	not value.ok
	value.msg == "rank-0 would be moved outside the maintenance window"
	value.fix == {"retry_after_ms": ((((4 * 1440) + 60) - 16) * 60000) - 40000}
}

test_every_minute_of_it[ms] if {
	some ms, want in {
		345599999: false,
		349199999: false,
		349200000: true,
		352799999: true,
		352800000: false,
		954000000: true,
	}
	check(at(ms), monday).ok == want
}

test_the_clock_of_another_place if not check(moving, with_params({"utc_offset_minutes": 60})).ok

test_only_moves_wait if check(example.proposing("rank-0", {"memory_mib": 512}), monday).ok

test_only_these_sites[site] if {
	some site, want in {"south": false, "north": false, "east": true}
	check(moving, object.union(monday, {"sites": [site]})).ok == want
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {
		"sites": {"sites": []},
		"no list": {"sites": "south"},
		"windows": {"windows": "always"},
		"minute": {"windows": [{"days": ["thu"], "from_minute": "0", "until_minute": 9}]},
		"offset": {"utc_offset_minutes": null},
	}
	not check(moving, with_params(change))
}
