# METADATA
# title: Maximum downtime
# description: >-
#   How long a move may stop a machine. Before planning it hands the planner the limit; on the plan it judges what is
#   predicted. Several owners' limits meet at the smallest.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "the planner predicts the stop; no value of a request follows from it"
#   params:
#     type: object
#     additionalProperties: false
#     required: [max_downtime_ms]
#     properties:
#       max_downtime_ms: {type: integer, minimum: 0}
#   example:
#     level: deny
#     match: {kinds: [resize, move, scale]}
#     params: {max_downtime_ms: 500}
package drover.rules.max_downtime

import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": count(slow) == 0,
		"msg": concat("; ", sort(_messages(slow, limit))),
		"params": {"max_downtime_ms": limit, "slow": slow},
		"limits": {"max_downtime_ms": limit},
	},
	pointers.first({$"/plan/moves/{index}/downtime_ms" | some index, move in moves; move.downtime_ms > limit}),
) if {
	some id, constraint in data.drover.constraints.max_downtime
	limit := constraint.params.max_downtime_ms
	is_number(limit)
	every move in moves {
		is_number(move.downtime_ms)
	}
	slow := {{"machine": move.machine, "downtime_ms": move.downtime_ms} |
		some move in moves
		move.downtime_ms > limit
	}
}

moves := input.plan.moves if input.point == "plan"

moves := [] if input.point != "plan"

_messages(slow, _) := {"no move stops a machine for too long"} if count(slow) == 0

_messages(slow, limit) := {message |
	some move in slow
	message := $"moving {move.machine} would stop it for {move.downtime_ms} ms, at most {limit} ms are allowed"
} if {
	count(slow) > 0
}
