# METADATA
# title: Combination within one owner's bundle
# description: >-
#   Joins the values of all rule instances into one verdict. Whatever is absent, malformed or unknown denies: an answer
#   starts from deny, and only a complete set of boolean values turns it.
package drover.main

import data.drover.lib.facts

# METADATA
# title: Verdict on a request, before it is planned
# entrypoint: true
default decision := {
	"contract": 1,
	"effect": "deny",
	"findings": [{
		"rule": "contract",
		"id": "input",
		"level": "deny",
		"ok": false,
		"code": "policy.indeterminate",
		"msg": "input or constraints do not fit the contract",
		"params": {},
		"disclose": "operator",
	}],
	"obligations": [],
	"limits": {},
}

decision := answer if {
	input.point in {"request", "stack"}
	sound
}

# METADATA
# title: Verdict on the finished plan, just before it is granted
# entrypoint: true
default plan_check := {
	"contract": 1,
	"effect": "deny",
	"findings": [{
		"rule": "contract",
		"id": "plan",
		"level": "deny",
		"ok": false,
		"code": "policy.indeterminate",
		"msg": "input, plan or constraints do not fit the contract",
		"params": {},
		"disclose": "operator",
	}],
	"obligations": [],
	"limits": {},
}

plan_check := answer if {
	input.point == "plan"
	sound
	plan_sound
}

# METADATA
# title: What this policy is
# description: Contract version and the catalogue of rules, from their METADATA; read when the policy is loaded
# entrypoint: true
self := {"contract": 1, "rules": {name: about |
	some name
	about := data.drover.rules[name].about
}}

answer := {
	"contract": 1,
	"effect": effect,
	"findings": findings,
	"obligations": obligations,
	"limits": limits,
}

default effect := "deny"

effect := "allow" if {
	count(_denying) == 0
	count(_approving) == 0
}

effect := "approve" if {
	count(_denying) == 0
	count(_approving) > 0
}

_denying contains finding if {
	some finding in findings
	finding.ok == false
	finding.level == "deny"
	finding.code != "policy.exempt"
}

# what cannot be decided cannot be approved either
_denying contains finding if {
	some finding in findings
	finding.level == "approve"
	finding.code == "policy.indeterminate"
}

_approving contains finding if {
	some finding in findings
	finding.ok == false
	finding.level == "approve"
	finding.code != "policy.exempt"
}

findings contains finding if {
	some name, group in data.drover.constraints
	some id, constraint in group
	live(constraint)
	verdict := verdict_of(name, id)
	exemption := exemption_of(name, id, verdict)
	finding := object.union_n([
		verdict,
		exemption,
		{"rule": name, "id": id, "level": level_of(constraint), "disclose": disclose_of(name)},
	])
}

# an instance counts unless it says "off", or says well-formed that this request is none of its business
live(constraint) if {
	level_of(constraint) != "off"
	not _excluded(constraint)
}

# anything but a known level denies
default level_of(_) := "deny"

level_of(constraint) := constraint.level if constraint.level in {"off", "audit", "warn", "approve"}

_subjects := {
	"points": {input.point},
	"kinds": {input.request.kind},
	"subjects": {input.subject.type},
	"environments": {input.environment.name},
	"owners": {input.environment.owner},
	"classes": ({input.environment.class} | {machine.class |
		some machine in facts.changed
	}),
}

_excluded(constraint) if {
	some key, values in constraint.match
	is_array(values)
	count(values) > 0
	every value in _subjects[key] {
		is_string(value)
		not value in values
	}
}

# bind rules by iterating: an inline `not data.drover.rules[name]...` is miscompiled for WASM (OPA 1.20.2)
values[name] := checks if {
	some name
	checks := data.drover.rules[name].checks
}

default disclose_of(_) := "operator"

disclose_of(name) := "owner" if {
	some rule
	data.drover.rules[rule].about.custom.disclose == "owner"
	rule == name
}

default verdict_of(_, _) := {
	"ok": false,
	"code": "policy.indeterminate",
	"msg": "the rule gave no value",
	"params": {},
}

verdict_of(name, id) := _told(values[name][id], "policy.allowed") if values[name][id].ok == true

verdict_of(name, id) := _told(values[name][id], "policy.denied") if values[name][id].ok == false

_told(check, code) := object.union(
	{"ok": check.ok, "code": code, "msg": check.msg, "params": check.params},
	object.filter(check, {"path", "fix"}),
)

default exemption_of(_, _, _) := {}

# only a denial with a value can be exempted, never what could not be decided
exemption_of(name, id, verdict) := {"code": "policy.exempt", "exemption": min(ids)} if {
	verdict.code == "policy.denied"
	ids := {exemption.id |
		some exemption in data.drover.exemptions
		exemption.rule == name
		exemption.instance == id
		input.environment.name in exemption.environments
		is_number(exemption.expires_ms)
		input.now_ms < exemption.expires_ms
	}
	count(ids) > 0
}

obligations contains obligation if {
	some name, group in data.drover.constraints
	some id, constraint in group
	live(constraint)
	some obligation in values[name][id].obligations
}

limits[key] := min(offered) if {
	some key in {"max_downtime_ms", "max_mbps", "ttl_ms"}
	offered := {limit |
		some name, group in data.drover.constraints
		some id, constraint in group
		live(constraint)
		limit := values[name][id].limits[key]
	}
	count(offered) > 0
}

# the input names nothing that it does not hold, and the constraints are there
sound if {
	input.contract == 1
	is_number(input.now_ms)
	is_string(input.request.kind)
	is_string(input.environment.name)
	facts.whole
	every machine in input.environment.machines {
		_placed(machine)
	}
	names := {machine.name | some machine in input.environment.machines}
	count(names) == count(input.environment.machines)
	every name in input.request.machines {
		name in names
	}
	links := {link.name | some link in input.environment.links}
	every name in input.request.links {
		name in links
	}
	input.environment.recent.total == count(input.environment.recent.requests)
	is_object(data.drover.constraints)
	count(data.drover.constraints) > 0
	every group in data.drover.constraints {
		is_object(group)
	}
}

# what runs somewhere will be somewhere, unless it is destroyed
_placed(machine) if machine.proposed.site != ""

_placed(machine) if machine.site == ""

_placed(_) if input.request.kind == "destroy"

# the plan moves exactly the machines whose host changes
plan_sound if {
	is_number(input.plan.downtime_ms)
	{move.machine | some move in input.plan.moves} == {machine.name |
		some machine in input.environment.machines
		machine.host != ""
		machine.proposed.host != ""
		machine.proposed.host != machine.host
	}
}
