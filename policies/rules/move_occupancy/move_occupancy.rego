# METADATA
# title: Move occupancy
# description: >-
#   A move holds its room twice: at the source until it has ended, at the destination from its start. This is the budget
#   for that, over all moves that run at the same time, this request's included. Budgets for what machines have when
#   they stand still are the quotas.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "what is only moved cannot be made smaller, and nobody knows when moves under way end"
#   params:
#     type: object
#     additionalProperties: false
#     required: [per, max_machines, max_cpu_percent, max_memory_mib, max_disk_gib]
#     properties:
#       per: {enum: [environment, owner]}
#       max_machines: {type: integer, minimum: 0, description: "machines that move at the same time"}
#       max_cpu_percent: {type: integer, minimum: 0}
#       max_memory_mib: {type: integer, minimum: 0}
#       max_disk_gib: {type: integer, minimum: 0}
#   example:
#     level: deny
#     params: {per: environment, max_machines: 2, max_cpu_percent: 200, max_memory_mib: 4096, max_disk_gib: 40}
package drover.rules.move_occupancy

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(over) == 0,
		"msg": concat("; ", sort(_messages(over))),
		"params": {"per": constraint.params.per, "over": over},
	},
	nearest.fix(over, {attribute: value | some attribute, total in over; value := _nearest(attribute, total)}),
	pointers.first({pointers.proposed(input.environment.machines, machine.name, "host") |
		count(over) > 0
		some machine in facts.moving
	}),
]) if {
	some id, constraint in data.drover.constraints.move_occupancy
	running := _running(constraint.params.per)
	every attribute in _attributes {
		is_number(constraint.params[$"max_{attribute}"])
		is_number(running[attribute])
	}
	facts.whole
	over := {attribute: {"running": running[attribute], "after": after, "max": limit} |
		count(facts.moving) > 0
		some attribute in _attributes
		limit := constraint.params[$"max_{attribute}"]
		after := running[attribute] + added[attribute]
		after > limit
	}
}

_attributes := ["machines", "cpu_percent", "memory_mib", "disk_gib"]

_running("environment") := input.environment.moving

_running("owner") := input.owner.moving

# at the destination a machine holds its size of after the request, or what it has if that is more
added := {
	"machines": count(facts.moving),
	"cpu_percent": sum([max([machine.cpu_percent, machine.proposed.cpu_percent]) | some machine in facts.moving]),
	"memory_mib": sum([max([machine.memory_mib, machine.proposed.memory_mib]) | some machine in facts.moving]),
	"disk_gib": sum([machine.disk_gib | some machine in facts.moving]),
}

# the size that each machine which grows while it moves could have
_nearest(attribute, total) := nearest.size(growing, attribute, left) if {
	attribute in {"cpu_percent", "memory_mib"}
	growing := nearest.growing(facts.moving, attribute)
	left := (total.max - total.after) + sum([machine.proposed[attribute] | some machine in growing])
}

_messages(over) := {"moves stay within their budget"} if count(over) == 0

_messages(over) := {message |
	some attribute, total in over
	message := $"moves would hold {total.after} of {attribute} twice, at most {total.max} are budgeted"
} if {
	count(over) > 0
}
