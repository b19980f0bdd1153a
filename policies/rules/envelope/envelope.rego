# METADATA
# title: Envelope
# description: >-
#   A machine stays within the bounds that its stack allows adaptation to use. A value that equals what is in force or
#   the baseline is inside by definition, so that a narrowed envelope never blocks the way back.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "machines whose envelopes have nothing in common have no one nearest value"
#   params: {type: object, additionalProperties: false, properties: {}}
#   example:
#     level: deny
#     params: {}
package drover.rules.envelope

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(breaches | foreign_sites) == 0,
		"msg": concat("; ", sort(messages)),
		"params": {"breaches": breaches | foreign_sites},
	},
	nearest.fix({breach.attribute | some breach in (breaches | foreign_sites)}, fix),
	pointers.first({pointers.proposed(input.environment.machines, breach.machine, breach.attribute) |
		some breach in (breaches | foreign_sites)
	}),
]) if {
	some id, _ in data.drover.constraints.envelope
	facts.whole
}

breaches contains {
	"machine": machine.name,
	"attribute": attribute,
	"value": value,
	"min": range.min,
	"max": range.max,
} if {
	some machine in input.environment.machines
	not machines.gone(machine)
	some attribute in machines.attributes
	value := machine.proposed[attribute]
	range := machine.envelope[attribute]
	not _inside(value, range)
	value != machine.baseline[attribute]
	_would_be(machine, attribute)
}

foreign_sites contains {
	"machine": machine.name,
	"attribute": "site",
	"value": machine.proposed.site,
	"sites": machine.envelope.sites,
} if {
	some machine in input.environment.machines
	not machines.gone(machine)
	machine.proposed.site != machine.baseline.site
	_would_be(machine, "site")
	not machine.proposed.site in machine.envelope.sites
}

# what is in force is judged by audits only
_would_be(machine, field) if machine.proposed[field] != machine[field]

_would_be(_, _) if facts.standing

_inside(value, range) if {
	value >= range.min
	value <= range.max
}

messages contains "within the envelope" if count(breaches | foreign_sites) == 0

messages contains $"{asked} is {side} {breach.machine}'s {limit}" if {
	some breach in breaches
	asked := machines.size(breach.attribute, breach.value)
	some side, bound in {"above": breach.max, "below": breach.min}
	_beyond(side, breach.value, bound)
	limit := machines.size(breach.attribute, bound)
}

messages contains $"{breach.machine} may not live at {breach.value}" if some breach in foreign_sites

_beyond("above", value, bound) if value > bound

_beyond("below", value, bound) if value < bound

# for a group: the nearest value that all of its machines may have
fix[attribute] := value if {
	some attribute in {breach.attribute | some breach in breaches}
	value := _bound([breach | some breach in breaches; breach.attribute == attribute])
	every machine in input.environment.machines {
		_bears(machine, attribute, value)
	}
}

# where they are, or the first site that all of them may live at
fix["site"] := nearest.site(asking, allowed) if {
	asking := [object.union(machine, {"site": _left(machine)}) |
		some breach in foreign_sites
		some machine in input.environment.machines
		machine.name == breach.machine
	]
	allowed := intersection({sites | some breach in foreign_sites; sites := {site | some site in breach.sites}})
	count(asking) > 0
}

_bound(found) := min(highest) if {
	highest := {breach.max | some breach in found; breach.value > breach.max}
	count(highest) > 0
}

_bound(found) := max({breach.min | some breach in found}) if {
	every breach in found {
		breach.value <= breach.max
	}
}

# what is asked to have another size may have this one
_bears(machine, attribute, _) if machine.proposed[attribute] == machine[attribute]

_bears(machine, attribute, value) if _inside(value, machine.envelope[attribute])

_left(machine) := machine.site if not facts.standing

_left(_) := "" if facts.standing
