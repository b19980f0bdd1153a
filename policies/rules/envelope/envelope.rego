# METADATA
# title: Envelope
# description: >-
#   A machine stays within the bounds that its stack allows adaptation to use. A value that equals what is in force or
#   the baseline is inside by definition, so that a narrowed envelope never blocks the way back.
# custom:
#   disclose: owner
#   level: deny
#   params: {type: object, additionalProperties: false, properties: {}}
#   example:
#     level: deny
#     params: {}
package drover.rules.envelope

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": count(breaches | foreign_sites) == 0,
		"msg": concat("; ", sort(messages)),
		"params": {"breaches": breaches | foreign_sites},
		"fix": fix,
	},
	pointers.first({pointers.proposed(input.environment.machines, breach.machine, breach.attribute) |
		some breach in (breaches | foreign_sites)
	}),
) if {
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
fix[attribute] := nearest if {
	some attribute in {breach.attribute | some breach in breaches}
	highest := {breach.max | some breach in breaches; breach.attribute == attribute; breach.value > breach.max}
	count(highest) > 0
	nearest := min(highest)
}

fix[attribute] := nearest if {
	some attribute in {breach.attribute | some breach in breaches}
	above := [breach | some breach in breaches; breach.attribute == attribute; breach.value > breach.max]
	count(above) == 0
	nearest := max({breach.min | some breach in breaches; breach.attribute == attribute})
}
