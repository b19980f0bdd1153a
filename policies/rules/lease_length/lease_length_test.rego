package drover.rules.lease_length_test

import data.drover.lib.example_test as example
import data.drover.rules.lease_length

params := {"max_ms": 3600000, "longer": "cut"}

check(request, given) := value if {
	value := lease_length.checks.i with input as request
		with data.drover.constraints as example.instance("lease_length", given)
}

with_params(change) := object.union(params, change)

growing := example.proposing("rank-0", {"memory_mib": 320})

lasting(lease) := object.union(growing, {"request": {"lease_ms": lease}})

refusing := with_params({"longer": "refuse"})

test_short_enough[longer] if {
	some longer in ["cut", "refuse"]
	value := check(lasting(3600000), with_params({"longer": longer}))
	value.ok
	value.msg == "the lease is short enough"
	not "limits" in object.keys(value)
}

test_cut if {
	value := check(lasting(3600001), params)
	value.ok
	value.limits == {"ttl_ms": 3600000}
	value.msg == "granted for 3600000 ms at most"
	check(growing, params).limits == {"ttl_ms": 3600000}
}

test_refused if {
	value := check(lasting(3600001), refusing)
	not value.ok
	value.fix == {"lease_ms": 3600000}
	value.path == "/request/lease_ms"
	value.msg == "a lease of at most 3600000 ms is granted"
	not check(growing, refusing).ok
}

test_what_has_no_lease_is_not_judged[what] if {
	some what, request in {
		"the stack": object.union(growing, example.kind("update")),
		"giving back": example.proposing("rank-0", {"memory_mib": 192}),
	}
	check(request, refusing).ok
}

test_broken_parameters_give_no_value[what] if {
	some what, change in {"text": {"max_ms": "1"}, "unknown": {"longer": "maybe"}}
	not check(growing, with_params(change))
}
