package drover.rules.owner_quota_test

import data.drover.lib.example_test as example
import data.drover.rules.owner_quota

params := {
	"max_environments": 2,
	"max_machines": 4,
	"max_vcpus": 8,
	"max_cpu_percent": 160,
	"max_memory_mib": 4096,
	"max_disk_gib": 20,
	"max_rate_mbps": 400,
}

check(request, given) := value if {
	value := owner_quota.checks.i with input as request
		with data.drover.constraints as example.instance("owner_quota", given)
}

with_params(change) := object.union(params, change)

test_within if {
	value := check(example.request, params)
	value.ok
	value.msg == "within the owner's quota"
}

test_the_others_count_too if {
	value := check(example.proposing("rank-0", {"cpu_percent": 61}), params)
	value.params.over == {"cpu_percent": {"before": 120, "after": 161, "max": 160}}
	value.fix == {"cpu_percent": 60}
	value.msg == "cpu_percent of all environments of alice would be 161, the quota is 160"
}

test_each_of_a_group_could_have_the_same if {
	check(example.proposing_all({"cpu_percent": 50}), params).fix == {"cpu_percent": 40}
}

test_links_could_have_what_is_left if {
	value := check(example.rate(401), params)
	value.params.over.rate_mbps.max == 400
	value.fix == {"rate_mbps": 400 - example.request.owner.others.rate_mbps}
}

test_no_fix_when_the_others_fill_it_alone if {
	full := object.union(example.proposing("rank-0", {"cpu_percent": 21}), {"owner": {"others": {"cpu_percent": 160}}})
	value := check(full, params)
	not value.ok
	not value.fix
}

test_giving_back_passes if {
	full := object.union(example.proposing("rank-0", {"cpu_percent": 10}), {"owner": {"others": {"cpu_percent": 900}}})
	check(full, params).ok
}

test_an_audit_tells_what_is if {
	full := object.union(example.audited("rank-0", {}), {"owner": {"others": {"cpu_percent": 900}}})
	not check(full, params).ok
}

test_a_lost_limit_gives_no_value[limit] if {
	some limit, _ in params
	not check(example.request, object.remove(params, [limit]))
}

test_lost_totals_give_no_value if {
	not check(object.union(example.request, {"owner": {"others": {"vcpus": null}}}), params)
}
