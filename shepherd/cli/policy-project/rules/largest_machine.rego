# METADATA
# title: Largest machine
# description: No machine grows beyond this much memory.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [max_memory_mib]
#     properties:
#       max_memory_mib: {type: integer, minimum: 1}
package drover.rules.largest_machine

import data.drover.lib.facts

about := rego.metadata.chain()[1].annotations

checks[id] := {
	"ok": count(larger) == 0,
	"msg": _told(larger, limit),
	"params": {"machines": larger, "max_memory_mib": limit},
	"fix": {"memory_mib": limit},
} if {
	some id, constraint in data.drover.constraints.largest_machine
	limit := constraint.params.max_memory_mib
	is_number(limit)
	facts.whole
	larger := {machine.name |
		some machine in input.environment.machines
		machine.proposed.memory_mib > limit
		machine.proposed.memory_mib > machine.memory_mib
	}
}

_told(larger, limit) := $"no machine grows beyond {limit} MiB" if count(larger) == 0

_told(larger, limit) := $"{concat(", ", larger)} would have more than {limit} MiB" if count(larger) > 0
