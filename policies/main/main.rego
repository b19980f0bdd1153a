# METADATA
# title: Combination within one owner's bundle
# description: >-
#   Joins the values of all rule instances into one verdict. Whatever is absent, malformed or unknown denies: an answer
#   starts from deny, and only a complete set of boolean values turns it.
package drover.main

import data.drover.access
import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.requests

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
	every machine in input.environment.machines {
		_placed_by_plan(machine)
	}
}

# METADATA
# title: Verdict on an environment as it stands
# description: Grants and forbids nothing; `deny` says that a rule which denies is broken right now
# entrypoint: true
default audit := {
	"contract": 1,
	"effect": "deny",
	"findings": [{
		"rule": "contract",
		"id": "audit",
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

audit := answer if {
	input.point == "audit"
	sound
	_nothing_proposed
}

# the standing state proposes itself
_nothing_proposed if every machine in input.environment.machines {
	not machines.changes(machine)
}

# METADATA
# title: Who may do what through the API
# entrypoint: true
roles := access.verdict

# METADATA
# title: What this policy is
# description: Contract version, entrypoints and the catalogue of rules, from their METADATA; read when the policy is loaded
# entrypoint: true
self := {
	"contract": 1,
	"entrypoints": [
		"drover/main/audit",
		"drover/main/decision",
		"drover/main/plan_check",
		"drover/main/roles",
		"drover/main/self",
		"system/log/mask",
	],
	"rules": {name: about |
		some name
		about := data.drover.rules[name].about
	},
}

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

# an instance counts unless it says "off", or says well-formed that this request is none of its business; each is
# looked at once, whatever asks for it
_live := [[name, id, level] |
	some name, group in data.drover.constraints
	some id, constraint in group
	level := level_of(constraint)
	level != "off"
	not _excluded(constraint)
]

findings := [finding |
	some [name, id, level] in _live
	verdict := verdict_of(name, id)
	whose := {"rule": name, "id": id, "level": level, "disclose": disclose_of(name)}
	finding := object.union(verdict, _more_of(whose, verdict))
]

_more_of(whose, verdict) := whose if verdict.code != "policy.denied"

# only who said no can be excused, or answered by a person
_more_of(whose, verdict) := object.union_n([
	whose,
	exemption_of(whose.rule, whose.id, verdict),
	_approvers_of(whose.level, verdict),
]) if {
	verdict.code == "policy.denied"
}

# whose yes counts, where the owner names anybody and the rule did not
default _approvers_of(_, _) := {}

_approvers_of("approve", verdict) := {"params": {"approvers": approvers}} if {
	verdict.code == "policy.denied"
	approvers := data.drover.approvers
	not "approvers" in object.keys(verdict.params)
}

# anything but a known level denies; of several overrides that apply the strictest counts
default level_of(_) := "deny"

level_of(constraint) := _known_level(constraint.level) if not _overridden(constraint)

_overridden(constraint) if constraint.levels

# not an object either: it must not pass for none
_overridden(constraint) if constraint.levels == false

level_of(constraint) := strictest if {
	_overridden(constraint)
	is_object(constraint.levels)
	overrides := {_known_level(level) |
		some key, own in {"points": input.point, "environments": input.environment.name}
		some value, level in object.get(constraint.levels, key, {})
		value == own
	}
	strictest := _strictest(overrides | {_known_level(constraint.level) | count(overrides) == 0})
}

_strictness := ["off", "audit", "warn", "approve", "deny"]

default _known_level(_) := "deny"

_known_level(level) := level if level in {"off", "audit", "warn", "approve"}

_strictest(levels) := _strictness[max({rank | some rank, level in _strictness; level in levels})]

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
# only rules that have instances: what is not asked for is not computed
values[name] := checks if {
	some name, _ in data.drover.constraints
	checks := data.drover.rules[name].checks
}

default disclose_of(_) := "operator"

disclose_of(name) := "owner" if name in _told_to_owners

# a rule's metadata is made each time it is looked at: of all rules that was a fifth of a decision
_told_to_owners contains name if {
	some name, _ in data.drover.constraints
	data.drover.rules[name].about.custom.disclose == "owner"
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
		some exemption in _exemptions
		exemption.rule == name
		exemption.instance == id
		input.environment.name in exemption.environments
		is_number(exemption.expires_ms)
		input.now_ms < exemption.expires_ms
	}
	count(ids) > 0
}

# those that stand in the bundle, and those that people gave at run time
_exemptions contains exemption if some exemption in data.drover.exemptions

_exemptions contains exemption if some exemption in input.exemptions

# each says which instance wants it
obligations contains object.union(obligation, {"rule": name, "instance": id}) if {
	some [name, id, _] in _live
	some obligation in values[name][id].obligations
}

# most instances limit nothing: found once, not once for every limit that there is
_limiting := [[name, id, level, limits_] |
	some [name, id, level] in _live
	limits_ := values[name][id].limits
]

# what only warns, or is exempt, keeps nobody away from anything
_binding := [limits_ |
	some [name, id, level, limits_] in _limiting
	level in {"approve", "deny"}
	exemption_of(name, id, {"code": "policy.denied"}) == {}
]

limits[key] := min(offered) if {
	some key in {"max_downtime_ms", "max_mbps", "ttl_ms"}
	offered := {limit |
		some [_, _, _, limits_] in _limiting
		limit := limits_[key]
	}
	count(offered) > 0
}

# places that no planner may choose, machines that it may not bring together or spread, and what nobody may do about a
# copy that does not end
limits[key] := all if {
	some key in {"avoid", "apart", "together", "forbid_rungs"}
	all := {one |
		some limits_ in _binding
		some one in limits_[key]
	}
	count(all) > 0
}

# the input names nothing that it does not hold, and the constraints are there
sound if {
	input.contract == 1
	is_number(input.now_ms)
	input.request.kind in requests.kinds
	_lease_sound
	input.subject.type in requests.askers
	_named(input.subject.name)
	_named(input.environment.owner)
	_named(input.environment.name)
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
	input.environment.moves.total == count(input.environment.moves.rows)
	input.owner.name == input.environment.owner
	input.environment.counts == {
		"machines": count(input.environment.machines),
		"links": count(input.environment.links),
	}
	_members == {[group.name, name] | some group in input.environment.groups; some name in group.machines}
	every site in input.sites {
		site.shares.total == count(site.shares.rows)
	}
	is_object(data.drover.constraints)
	count(data.drover.constraints) > 0
	every group in data.drover.constraints {
		is_object(group)
	}
}

# absent, or a time
_lease_sound if not "lease_ms" in object.keys(input.request)

_lease_sound if is_number(input.request.lease_ms)

_named(name) if {
	is_string(name)
	name != ""
}

_members := {[machine.group, machine.name] |
	some machine in input.environment.machines
	machine.group != ""
}

# what runs somewhere will be somewhere, unless it is destroyed
_placed(machine) if machine.proposed.site != ""

_placed(machine) if machine.site == ""

_placed(_) if input.request.kind == "destroy"

# one that leaves a group is destroyed by a request that changes others
_placed(machine) if machines.gone(machine)

# a plan knows where everything is that exists
_placed_by_plan(machine) if {
	machine.proposed.host != ""
	machine.proposed.site != ""
}

_placed_by_plan(machine) if machine.proposed.vcpus == 0

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
