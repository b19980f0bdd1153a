package drover.main_test

import data.drover.lib.example_test as example
import data.drover.main

growing := example.proposing("rank-0", {"cpu_percent": 90})

constraints(level) := {"envelope": {"i": {"level": level, "params": {}}}}

decide(request, given) := value if {
	value := main.decision with input as request
		with data.drover.constraints as given
}

codes(answer) := {finding.code | some finding in answer.findings}

test_allow if decide(example.request, constraints("deny")).effect == "allow"

test_level_decides[level] if {
	some level, want in {"deny": "deny", "approve": "approve", "warn": "allow", "audit": "allow", "typo": "deny"}
	decide(growing, constraints(level)).effect == want
}

test_off_is_not_evaluated if {
	answer := decide(growing, object.union(constraints("off"), {"growth_factor": {"j": {
		"level": "deny",
		"params": {"max_factor": {"vcpus": 9, "cpu_percent": 9, "memory_mib": 9}},
	}}}))
	answer.effect == "allow"
	{finding.id | some finding in answer.findings} == {"j"}
}

test_a_finding_is_whole if {
	decide(growing, constraints("deny")).findings == [{
		"rule": "envelope",
		"id": "i",
		"level": "deny",
		"ok": false,
		"code": "policy.denied",
		"msg": "90 % is above rank-0's 60 %",
		"params": {"breaches": {{
			"machine": "rank-0",
			"attribute": "cpu_percent",
			"value": 90,
			"min": 10,
			"max": 60,
		}}},
		"fix": {"cpu_percent": 60},
		"path": "/environment/machines/0/proposed/cpu_percent",
		"disclose": "owner",
	}]
}

test_an_unknown_rule_denies if {
	answer := decide(example.request, {"ghost": {"i": {"level": "deny", "params": {}}}})
	answer.effect == "deny"
	codes(answer) == {"policy.indeterminate"}
}

test_an_undecidable_instance_is_not_approvable if {
	decide(example.request, {"ghost": {"i": {"level": "approve", "params": {}}}}).effect == "deny"
	decide(example.request, {"ghost": {"i": {"level": "warn", "params": {}}}}).effect == "allow"
}

test_no_constraints_deny if {
	main.decision.effect == "deny" with input as example.request
	decide(example.request, {}).effect == "deny"
	decide(example.request, {"envelope": "all"}).effect == "deny"
	decide(example.request, []).effect == "deny"
}

test_unsound_input_denies[what] if {
	some what, change in {
		"contract": {"contract": 2},
		"clock": {"now_ms": "later"},
		"lost machine": {"request": {"machines": ["rank-9"]}},
		"lost link": {"request": {"links": ["rank-0--rank-9"]}},
		"twins": {"environment": {"machines": [example.machine("rank-0"), example.machine("rank-0")]}},
		"lost rows": {"environment": {"recent": {"total": 4}}},
		"plan's point": {"point": "plan"},
		"no machines": {"environment": {"machines": []}},
		"nowhere": {"environment": {"machines": [object.union(
			example.machine("rank-0"),
			{"proposed": {"site": ""}},
		)]}},
	}
	decide(object.union(example.request, change), constraints("deny")).effect == "deny"
}

test_match_excludes[key] if {
	some key, values in {
		"points": ["plan"],
		"kinds": ["move", "rate"],
		"subjects": ["stack"],
		"environments": ["other"],
		"owners": ["bob"],
		"classes": ["sensitive"],
	}
	given := object.union(constraints("deny"), {"envelope": {"i": {"match": {key: values}}}})
	decide(growing, given).effect == "allow"
}

test_match_includes[key] if {
	some key, values in {
		"points": ["request"],
		"kinds": ["move", "resize"],
		"subjects": ["guest"],
		"environments": ["ring"],
		"owners": ["alice"],
		"classes": ["batch"],
	}
	given := object.union(constraints("deny"), {"envelope": {"i": {"match": {key: values}}}})
	decide(growing, given).effect == "deny"
}

test_a_malformed_match_does_not_excuse[key] if {
	some key, values in {"points": "plan", "kinds": [], "moon": ["full"], "subjects": null}
	given := object.union(constraints("deny"), {"envelope": {"i": {"match": {key: values}}}})
	decide(growing, given).effect == "deny"
}

exemption := {
	"id": "x1",
	"rule": "envelope",
	"instance": "i",
	"environments": ["ring"],
	"expires_ms": 2000000,
	"approved_by": "sam",
	"ticket": "T-1",
}

exempted(request, given, change) := value if {
	value := main.decision with input as request
		with data.drover.constraints as given
		with data.drover.exemptions as [object.union(exemption, change)]
}

test_exemption if {
	answer := exempted(growing, constraints("deny"), {})
	answer.effect == "allow"
	some finding in answer.findings
	finding.code == "policy.exempt"
	finding.exemption == "x1"
	finding.ok == false
}

test_an_exemption_that_does_not_fit[what] if {
	some what, change in {
		"expired": {"expires_ms": 1000000},
		"expiry as text": {"expires_ms": "9999999"},
		"no expiry": {"expires_ms": null},
		"other environment": {"environments": ["other"]},
		"other rule": {"rule": "freeze"},
		"other instance": {"instance": "j"},
	}
	exempted(growing, constraints("deny"), change).effect == "deny"
}

test_an_exemption_does_not_cover_what_is_undecided if {
	answer := exempted(example.request, {"ghost": {"i": {"level": "deny", "params": {}}}}, {"rule": "ghost"})
	answer.effect == "deny"
}

test_limits_meet if {
	given := {"max_downtime": {
		"a": {"level": "deny", "params": {"max_downtime_ms": 500}},
		"b": {"level": "deny", "params": {"max_downtime_ms": 300}},
		"c": {"level": "off", "params": {"max_downtime_ms": 100}},
	}}
	decide(example.request, given).limits == {"max_downtime_ms": 300}
}

test_obligations_of_a_foreign_rule if {
	answer := main.decision with input as example.request
		with data.drover.constraints as {"teams_own": {"i": {"level": "deny", "params": {}}}}
		with data.drover.rules.teams_own.checks as {"i": {
			"ok": true,
			"msg": "fine",
			"params": {},
			"obligations": [{"id": "notify", "params": {"who": "sam"}}],
		}}
	answer.effect == "allow"
	answer.obligations == {{"id": "notify", "params": {"who": "sam"}, "rule": "teams_own", "instance": "i"}}
	some finding in answer.findings
	finding.disclose == "operator"
}

test_a_value_that_is_no_boolean_is_undecided[what] if {
	some what, check in {
		"text": {"ok": "true", "msg": "x", "params": {}},
		"no text": {"ok": true, "params": {}},
		"no value": {"msg": "x", "params": {}},
	}
	answer := main.decision with input as example.request
		with data.drover.constraints as {"odd": {"i": {"level": "deny", "params": {}}}}
		with data.drover.rules.odd.checks as {"i": check}
	codes(answer) == {"policy.indeterminate"}
	answer.effect == "deny"
}

check_plan(request) := value if {
	value := main.plan_check with input as request
		with data.drover.constraints as constraints("deny")
}

test_plan_check if check_plan(example.moving("south", "south-1")).effect == "allow"

test_plan_check_denies_what_is_not_the_plan[what] if {
	some what, request in {
		"no plan": example.request,
		"wrong point": object.union(example.moving("south", "south-1"), {"point": "request"}),
		"hidden move": object.union(example.moving("south", "south-1"), {"plan": {"moves": []}}),
		"no cost": object.union(example.moving("south", "south-1"), {"plan": {"downtime_ms": "0"}}),
	}
	check_plan(request).effect == "deny"
}

test_self_names_every_rule_with_its_parameters if {
	main.self.contract == 1
	every _, about in main.self.rules {
		about.title != ""
		about.description != ""
		about.custom.disclose in {"owner", "operator"}
		about.custom.params.type == "object"
	}
	"envelope" in object.keys(main.self.rules)
}

test_what_is_destroyed_may_be_nowhere if {
	gone := {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}
	decide(object.union(example.proposing("rank-0", gone), example.kind("destroy")), constraints("deny")).effect == "allow"
}

test_what_does_not_exist_yet_may_be_nowhere if {
	nothing := {"vcpus": 0, "cpu_percent": 0, "memory_mib": 0, "site": "", "host": ""}
	request := example.with_machine("rank-0", object.union(nothing, {"proposed": {"site": "", "host": ""}}))
	decide(object.union(request, example.kind("create")), constraints("deny")).effect == "allow"
}

quota_approves := {"environment_quota": {"default": {"level": "approve", "params": {
	"max_machines": 1,
	"max_vcpus": 9,
	"max_cpu_percent": 30,
	"max_memory_mib": 9999,
	"max_disk_gib": 99,
	"max_rate_mbps": 999,
}}}}

waiting_finding := finding if {
	answer := main.decision with input as example.proposing("rank-0", {"cpu_percent": 21})
		with data.drover.constraints as quota_approves
		with data.drover.approvers as ["ada", "tom"]
	answer.effect == "approve"
	some finding in answer.findings
}

test_the_owners_approvers_stand_in_what_waits if waiting_finding.params.approvers == ["ada", "tom"]

test_a_list_that_is_none_stands_there_too if {
	answer := main.decision with input as example.proposing("rank-0", {"cpu_percent": 21})
		with data.drover.constraints as quota_approves
		with data.drover.approvers as null
	answer.effect == "approve"
	answer.findings[0].params.approvers == null
}

test_nobody_is_named_where_nobody_is if {
	answer := main.decision with input as example.proposing("rank-0", {"cpu_percent": 21})
		with data.drover.constraints as quota_approves
	not "approvers" in object.keys(answer.findings[0].params)
}
