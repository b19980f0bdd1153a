# METADATA
# title: Predicted cost
# description: >-
#   What carrying out one plan may cost: time from its start to its end, bytes copied in all, and bytes of one
#   move. Judges the planner's prediction, on the finished plan.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "the planner predicts the cost; no value of a request follows from it"
#   params:
#     type: object
#     additionalProperties: false
#     required: [max_ms, max_bytes, max_move_bytes]
#     properties:
#       max_ms: {type: integer, minimum: 0}
#       max_bytes: {type: integer, minimum: 0}
#       max_move_bytes: {type: integer, minimum: 0}
#   example:
#     level: approve
#     match: {points: [plan]}
#     params: {max_ms: 600000, max_bytes: 50000000000, max_move_bytes: 20000000000}
package drover.rules.predicted_cost

import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": count(over) == 0,
		"msg": concat("; ", sort(_messages(over))),
		"params": {"over": over},
	},
	pointers.first({cost.path | some cost in over}),
) if {
	some id, constraint in data.drover.constraints.predicted_cost
	limits := {
		"predicted_ms": constraint.params.max_ms,
		"bytes": constraint.params.max_bytes,
		"move_bytes": constraint.params.max_move_bytes,
	}
	every limit in limits {
		is_number(limit)
	}
	every cost in costs {
		is_number(cost.value)
	}
	over := {object.union(cost, {"max": limits[cost.of]}) |
		some cost in costs
		cost.value > limits[cost.of]
	}
}

# before there is a plan there is nothing to cost
costs := set() if input.point != "plan"

costs := whole | moves if {
	input.point == "plan"
	whole := {
		{"of": "predicted_ms", "what": "the plan", "value": input.plan.predicted_ms, "path": "/plan/predicted_ms"},
		{"of": "bytes", "what": "the plan", "value": input.plan.bytes, "path": "/plan/bytes"},
	}
	moves := {{"of": "move_bytes", "what": what, "value": move.bytes, "path": path} |
		some index, move in input.plan.moves
		what := $"moving {move.machine}"
		path := $"/plan/moves/{index}/bytes"
	}
}

_words := {"predicted_ms": "ms", "bytes": "bytes", "move_bytes": "bytes"}

_messages(over) := {"the plan costs no more than it may"} if count(over) == 0

_messages(over) := {message |
	some cost in over
	message := $"{cost.what} would take {cost.value} {_words[cost.of]}, at most {cost.max} are allowed"
} if {
	count(over) > 0
}
