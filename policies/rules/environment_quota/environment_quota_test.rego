package drover.rules.environment_quota_test

import data.drover.lib.example_test as example
import data.drover.rules.environment_quota

quota := {"max_machines": 2, "max_vcpus": 4, "max_cpu_percent": 100, "max_memory_mib": 1000, "max_disk_gib": 10, "max_rate_mbps": 250}

check(request, params) := value if {
	value := environment_quota.checks.i with input as request
		with data.drover.constraints as example.instance("environment_quota", params)
}

test_within if check(example.proposing("rank-0", {"cpu_percent": 60}), quota).ok

test_over_by_one_machine if {
	value := check(example.proposing("rank-0", {"memory_mib": 1024}), quota)
	not value.ok
	value.msg == "memory_mib of the environment would be 1280, its quota is 1000"
	value.fix == {"memory_mib": 744}
}

test_group_shares_what_is_left if {
	value := check(example.proposing_all({"cpu_percent": 60}), quota)
	not value.ok
	value.fix == {"cpu_percent": 50}
}

test_no_fix_when_no_growth_fits if {
	value := check(example.proposing_all({"memory_mib": 600}), object.union(quota, {"max_memory_mib": 500}))
	not value.ok
	not value.fix
}

test_rates if {
	not check(example.rate(300), quota).ok
	check(example.rate(250), quota).ok
}

test_one_machine_too_many if {
	create := example.with_machine("rank-1", {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""})
	not check(object.union(create, example.kind("create")), object.union(quota, {"max_machines": 1})).ok
}

test_over_quota_may_shrink if {
	check(example.proposing("rank-0", {"memory_mib": 200}), object.union(quota, {"max_memory_mib": 100})).ok
}

test_over_quota_may_grow_something_else if {
	check(example.proposing("rank-0", {"cpu_percent": 40}), object.union(quota, {"max_memory_mib": 100})).ok
}

test_destroy_passes if {
	check(object.union(example.proposing("rank-0", {"memory_mib": 0}), example.kind("destroy")), object.union(quota, {"max_memory_mib": 0})).ok
}

test_a_lost_or_mistyped_limit_gives_no_value[key] if {
	some key in object.keys(quota)
	not check(example.request, object.remove(quota, [key]))
	not check(example.request, object.union(quota, {key: "9999"}))
}

test_an_audit_tells_what_is if {
	value := check(example.audited("rank-0", {}), object.union(quota, {"max_machines": 1}))
	not value.ok
}
