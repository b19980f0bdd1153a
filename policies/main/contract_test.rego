# What of the contract is about levels, exemptions given at run time, the audit, and places to avoid.
package drover.main_contract_test

import data.drover.lib.example_test as example
import data.drover.main

growing := example.proposing("rank-0", {"cpu_percent": 90})

envelope(levels) := {"envelope": {"i": {"level": "deny", "levels": levels, "params": {}}}}

effect(request, given) := answer.effect if {
	answer := main.decision with input as request with data.drover.constraints as given
}

test_an_environment_has_a_level_of_its_own if {
	effect(growing, envelope({"environments": {"ring": "warn"}})) == "allow"
	effect(growing, envelope({"environments": {"ring": "approve"}})) == "approve"
	effect(growing, envelope({"environments": {"lab": "warn"}})) == "deny"
}

test_a_point_has_a_level_of_its_own if {
	effect(growing, envelope({"points": {"request": "audit"}})) == "allow"
	effect(growing, envelope({"points": {"stack": "audit"}})) == "deny"
	effect(object.union(growing, {"point": "stack"}), envelope({"points": {"stack": "audit"}})) == "allow"
}

test_of_two_overrides_the_strictest_counts if {
	effect(growing, envelope({"points": {"request": "audit"}, "environments": {"ring": "approve"}})) == "approve"
	effect(growing, envelope({"points": {"request": "deny"}, "environments": {"ring": "off"}})) == "deny"
}

test_an_override_may_be_stricter_than_the_level if {
	given := {"envelope": {"i": {"level": "warn", "levels": {"environments": {"ring": "deny"}}, "params": {}}}}
	effect(growing, given) == "deny"
	given_off := {"envelope": {"i": {"level": "off", "levels": {"points": {"request": "deny"}}, "params": {}}}}
	effect(growing, given_off) == "deny"
}

test_a_malformed_override_denies[what] if {
	some what, levels in {
		"a level that is none": {"environments": {"ring": "typo"}},
		"a number": {"points": {"request": 1}},
		"no object": "audit",
		"null": null,
	}
	effect(growing, {"envelope": {"i": {"level": "warn", "levels": levels, "params": {}}}}) == "deny"
}

exemption := {
	"id": "x-1",
	"owner": "operator",
	"rule": "envelope",
	"instance": "i",
	"environments": ["ring"],
	"expires_ms": 1000001,
	"approved_by": "sam",
	"ticket": "SEC-1",
}

exempted(change) := object.union(growing, {"exemptions": [object.union(exemption, change)]})

test_an_exemption_given_at_run_time_excuses if {
	answer := main.decision with input as exempted({}) with data.drover.constraints as envelope({})
	answer.effect == "allow"
	{finding.exemption | some finding in answer.findings} == {"x-1"}
}

test_one_that_is_over_or_of_another_does_not[what] if {
	some what, change in {
		"over": {"expires_ms": 1000000},
		"another rule": {"rule": "freeze"},
		"another environment": {"environments": ["lab"]},
		"another instance": {"instance": "j"},
	}
	effect(exempted(change), envelope({})) == "deny"
}

audit(request) := answer if {
	answer := main.audit with input as request with data.drover.constraints as envelope({})
}

test_the_audit_judges_what_is if {
	audit(example.audited("rank-0", {})).effect == "allow"
	answer := audit(example.audited("rank-0", {"cpu_percent": 90}))
	answer.effect == "deny"
	{finding.code | some finding in answer.findings} == {"policy.denied"}
}

test_the_audit_answers_at_its_point_only if {
	audit(example.request).findings[0].code == "policy.indeterminate"
	effect(example.audited("rank-0", {}), envelope({})) == "deny"
}

avoiding(level) := {"trusted_sites": {"i": {"level": level, "params": {"class": "batch", "sites": ["north"]}}}}

test_places_to_avoid_are_told_by_what_denies if {
	answer := main.decision with input as example.request with data.drover.constraints as avoiding("deny")
	answer.limits.avoid == {{"machine": "rank-0", "site": "south"}}
}

test_what_only_warns_keeps_nobody_away[level] if {
	some level in ["warn", "audit"]
	answer := main.decision with input as example.request with data.drover.constraints as avoiding(level)
	not "avoid" in object.keys(answer.limits)
}

test_lost_rows_deny[what] if {
	some what, change in {
		"a lost move": {"environment": {"moves": {"total": 1}}},
		"another owner": {"owner": {"name": "bob"}},
		"a lost share": {"sites": [object.union(site, {"shares": {"total": 7}}) | some site in example.request.sites]},
	}
	answer := main.decision with input as object.union(example.request, change)
		with data.drover.constraints as envelope({})
	answer.findings[0].code == "policy.indeterminate"
}

test_rungs_that_nobody_may_take_add_up if {
	answer := main.decision with input as example.request
		with data.drover.constraints as {"teams_own": {
			"a": {"level": "deny", "params": {}},
			"b": {"level": "warn", "params": {}},
		}}
		with data.drover.rules.teams_own.checks as {
			"a": {"ok": true, "msg": "fine", "params": {}, "limits": {"forbid_rungs": ["abort", "throttle"]}},
			"b": {"ok": true, "msg": "fine", "params": {}, "limits": {"forbid_rungs": ["post_copy"]}},
		}
	answer.limits.forbid_rungs == {"abort", "throttle"}
}
