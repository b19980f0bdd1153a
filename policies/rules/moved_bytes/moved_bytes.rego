# METADATA
# title: Moved bytes
# description: >-
#   How much moves may copy in a day: of all environments of one owner, or of one environment. What runs counts as
#   predicted, what has ended as measured, failed moves too: the bytes went over the line.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "of the owner's other environments only the sum is known; and what a plan copies alone is too much at any time"
#   params:
#     type: object
#     additionalProperties: false
#     required: [per, max_bytes]
#     properties:
#       per: {enum: [owner, environment]}
#       max_bytes: {type: integer, minimum: 0, description: "in the last 24 hours and this plan"}
#   example:
#     level: deny
#     match: {points: [plan]}
#     params: {per: owner, max_bytes: 500000000000}
package drover.rules.moved_bytes

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": ok,
		"msg": _message(ok, constraint.params.per, moved + added, limit),
		"params": {"per": constraint.params.per, "moved_bytes": moved, "plan_bytes": added, "max_bytes": limit},
	},
	_waiting([ok, constraint.params.per], limit),
	pointers.first({path | not ok; path := _where(constraint.params.per, added)}),
]) if {
	some id, constraint in data.drover.constraints.moved_bytes
	limit := constraint.params.max_bytes
	is_number(limit)
	moved := _moved(constraint.params.per)
	is_number(moved)
	is_number(added)
	ok := _within(moved, added, limit)
}

_moved("owner") := input.owner.moved_bytes

_moved("environment") := sum([row.bytes | some row in input.environment.moves.rows]) if {
	facts.moves_whole
}

_where(_, added_) := "/plan/bytes" if added_ > 0

_where("owner", 0) := "/owner/moved_bytes"

_where("environment", 0) := "/environment/moves/rows"

# before there is a plan nobody knows
added := input.plan.bytes if input.point == "plan"

added := 0 if input.point != "plan"

default _within(_, _, _) := false

_within(moved, added, limit) if moved + added <= limit

_within(_, 0, _) if not facts.standing

# until so much of the day is over that the rest fits
_waiting([false, "environment"], limit) := nearest.wait(waits) if {
	waits := {((row.at_ms + 86400000) - input.now_ms) |
		some row in input.environment.moves.rows
		left := sum([other.bytes | some other in input.environment.moves.rows; other.at_ms > row.at_ms])
		left + added <= limit
	}
}

_waiting([true, _], _) := {}

_waiting([false, "owner"], _) := {}

_message(true, _, _, _) := "within the day's bytes"

_message(false, per, total, limit) := $"moves of the {per} would have copied {total} bytes in a day, at most {limit} may"
