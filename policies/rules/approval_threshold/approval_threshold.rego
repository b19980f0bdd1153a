# METADATA
# title: Approval threshold
# description: >-
#   From which size or cost on people have to agree: a machine that would grow above it, or a plan that would copy
#   more. `approvals` distinct people are needed; never the one who asked. What the stack itself declares counts
#   too.
# custom:
#   disclose: owner
#   level: approve
#   no_fix: "what a plan copies is predicted; no value of a request follows from it"
#   params:
#     type: object
#     additionalProperties: false
#     required: [approvals, vcpus, cpu_percent, memory_mib, plan_bytes]
#     properties:
#       approvals: {type: integer, minimum: 1, maximum: 5}
#       vcpus: {type: integer, minimum: 0, description: "of one machine; above it people are asked"}
#       cpu_percent: {type: integer, minimum: 0}
#       memory_mib: {type: integer, minimum: 0}
#       plan_bytes: {type: integer, minimum: 0}
#   example:
#     level: approve
#     params: {approvals: 2, vcpus: 8, cpu_percent: 400, memory_mib: 16384, plan_bytes: 100000000000}
package drover.rules.approval_threshold

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(above | costly) == 0,
		"msg": concat("; ", sort(_messages(above | costly, approvals))),
		"params": {"above": (above | costly), "approvals": approvals},
	},
	nearest.fix({one.attribute | some one in (above | costly)}, {attribute: min(values) |
		some attribute in machines.attributes
		values := {max([one.threshold, machine[attribute]]) |
			some one in above
			one.attribute == attribute
			some machine in input.environment.machines
			machine.name == one.machine
		}
		count(values) > 0
	}),
	pointers.first({_where(one) | some one in (above | costly)}),
]) if {
	some id, constraint in data.drover.constraints.approval_threshold
	approvals := constraint.params.approvals
	is_number(approvals)
	every attribute in machines.attributes {
		is_number(constraint.params[attribute])
	}
	is_number(constraint.params.plan_bytes)
	is_number(_bytes)
	facts.whole
	above := {one |
		not facts.relinquishing
		some grown in facts.growths
		threshold := constraint.params[grown.attribute]
		value := grown.machine.proposed[grown.attribute]
		value > threshold
		one := {
			"machine": grown.machine.name,
			"attribute": grown.attribute,
			"value": value,
			"threshold": threshold,
		}
	}
	costly := {{"attribute": "plan_bytes", "value": _bytes, "threshold": constraint.params.plan_bytes} |
		_bytes > constraint.params.plan_bytes
	}
}

_where(one) := "/plan/bytes" if one.attribute == "plan_bytes"

_where(one) := pointers.proposed(input.environment.machines, one.machine, one.attribute) if one.attribute != "plan_bytes"

_bytes := input.plan.bytes if input.point == "plan"

_bytes := 0 if input.point != "plan"

_messages(above, _) := {"below every threshold"} if count(above) == 0

_messages(above, approvals) := {message |
	some one in above
	what := _what(one)
	message := $"{what}: {_people(approvals)} must agree"
} if {
	count(above) > 0
}

_what(one) := $"the plan copies {one.value} bytes, more than {one.threshold}" if one.attribute == "plan_bytes"

_what(one) := $"{one.machine} would have {value}, more than {threshold}" if {
	one.attribute != "plan_bytes"
	value := machines.size(one.attribute, one.value)
	threshold := machines.size(one.attribute, one.threshold)
}

_people(1) := "one person"

_people(count_) := $"{count_} people" if count_ > 1
