# METADATA
# title: Growth factor
# description: >-
#   How many times its smallest size of the last hour a machine may have. Catches a runaway or a hijacked guest that
#   climbs in small steps. What the stack itself declares is not growth.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [max_factor]
#     properties:
#       max_factor:
#         description: times the smallest size of the last hour
#         type: object
#         additionalProperties: false
#         required: [vcpus, cpu_percent, memory_mib]
#         properties:
#           vcpus: {type: number, minimum: 1}
#           cpu_percent: {type: number, minimum: 1}
#           memory_mib: {type: number, minimum: 1}
#   example:
#     level: deny
#     params: {max_factor: {vcpus: 4, cpu_percent: 4, memory_mib: 4}}
package drover.rules.growth_factor

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.pointers
import data.drover.lib.requests

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": count(steep) == 0,
		"msg": concat("; ", sort(_messages(steep))),
		"params": {"factors": factors, "steep": steep},
		"fix": {attribute: value |
			some attribute in {growth.attribute | some growth in steep}
			value := min([growth.max | some growth in steep; growth.attribute == attribute])
		},
	},
	pointers.first({pointers.proposed(input.environment.machines, growth.machine, growth.attribute) |
		some growth in steep
	}),
) if {
	some id, constraint in data.drover.constraints.growth_factor
	factors := constraint.params.max_factor
	every attribute in machines.attributes {
		is_number(factors[attribute])
	}
	facts.whole
	steep := {growth |
		input.request.kind in requests.adapting_kinds
		some grown in facts.growths
		growth := _steep(grown.machine, grown.attribute, factors[grown.attribute])
	}
}

_steep(machine, attribute, factor) := {
	"machine": machine.name,
	"attribute": attribute,
	"value": machine.proposed[attribute],
	"hour_low": machine.hour_low[attribute],
	"max": max([allowed, machine[attribute]]),
} if {
	allowed := floor(machine.hour_low[attribute] * factor)
	machine.proposed[attribute] > allowed
}

_messages(steep) := {"no machine grows too fast"} if count(steep) == 0

_messages(steep) := {message |
	some growth in steep
	asked := machines.size(growth.attribute, growth.value)
	low := machines.size(growth.attribute, growth.hour_low)
	limit := machines.size(growth.attribute, growth.max)
	message := $"{asked} is too much growth for {growth.machine}, which had {low} within the hour; now at most {limit}"
} if {
	count(steep) > 0
}
