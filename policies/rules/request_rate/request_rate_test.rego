package drover.rules.request_rate_test

import data.drover.lib.example_test as example
import data.drover.rules.request_rate

rate(per) := {"per": per, "max_requests": 2, "window_ms": 60000}

check(request, params) := value if {
	value := request_rate.checks.i with input as request
		with data.drover.constraints as example.instance("request_rate", params)
}

row(subject, at_ms) := {"id": $"{subject}-{at_ms}", "at_ms": at_ms, "subject": subject, "kind": "resize", "effect": "deny", "machines": []}

after(rows) := object.union(
	example.proposing("rank-0", {"cpu_percent": 40}),
	{"environment": {"recent": {"total": count(rows), "requests": rows}}},
)

test_first if check(after([]), rate("subject")).ok

test_third_within_the_window if {
	value := check(after([row("rank-0", 950000), row("rank-0", 990000)]), rate("subject"))
	not value.ok
	value.msg == "2 requests of rank-0 in 60000 ms, at most 2"
	value.fix == {"retry_after_ms": 10000}
}

test_old_rows_do_not_count if {
	check(after([row("rank-0", 940000), row("rank-0", 990000)]), rate("subject")).ok
}

test_other_askers_do_not_count if {
	check(after([row("rank-1", 980000), row("rank-1", 990000)]), rate("subject")).ok
}

test_all_askers_count_for_the_environment if {
	value := check(after([row("rank-1", 980000), row("rank-2", 990000)]), rate("environment"))
	not value.ok
	value.msg == "2 requests of environment ring in 60000 ms, at most 2"
}

test_release_passes if {
	rows := [row("rank-0", 980000), row("rank-0", 990000)]
	check(object.union(after(rows), example.kind("release")), rate("subject")).ok
}

test_lost_rows_give_no_value if {
	request := object.union(after([row("rank-0", 980000)]), {"environment": {"recent": {"total": 2}}})
	not check(request, rate("subject"))
}

test_bad_parameters_give_no_value[params] if {
	some params in [
		{"per": "moon", "max_requests": 2, "window_ms": 60000},
		{"per": "subject", "max_requests": "2", "window_ms": 60000},
		{"per": "subject", "max_requests": 0, "window_ms": 60000},
		{"per": "subject", "max_requests": 2, "window_ms": 7200000},
		{"per": "subject", "max_requests": 2},
	]
	not check(after([]), params)
}

test_the_stack_and_giving_back_do_not_count[kind] if {
	some kind in {"create", "update", "destroy", "release", "repair"}
	rows := [object.union(row("rank-0", at), {"kind": kind}) | some at in [970000, 980000, 990000]]
	check(after(rows), rate("environment")).ok
}

test_an_audit_asks_for_nothing if {
	value := request_rate.checks.i with input as example.after_requests(example.audited("rank-0", {}), [{
		"id": "r",
		"at_ms": 999999,
		"subject": "audit",
		"kind": "resize",
		"effect": "allow",
		"machines": [],
	}])
		with data.drover.constraints as example.instance(
			"request_rate",
			{"per": "subject", "max_requests": 1, "window_ms": 60000},
		)
	value.ok
}
