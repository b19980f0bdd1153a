# METADATA
# title: Move ladder
# description: >-
#   What must not be done about the copy of a move that gets nowhere: a longer last stop, more of the line, slowing the
#   guest, post-copy, giving up. The first thing that is left is tried instead. It never says no; what several owners
#   forbid is forbidden together.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [forbid]
#     properties:
#       forbid:
#         type: array
#         uniqueItems: true
#         items: {type: string, enum: [downtime, bandwidth, throttle, post_copy, abort]}
#         description: "rungs of the ladder; without `abort` a copy that cannot end is given up only when its time is over"
#   example:
#     level: deny
#     match: {classes: [interactive]}
#     params: {forbid: [downtime, throttle]}
package drover.rules.move_ladder

about := rego.metadata.chain()[1].annotations

checks[id] := {
	"ok": true,
	"msg": _message(forbidden),
	"params": {"forbid": forbidden},
	"limits": {"forbid_rungs": forbidden},
} if {
	some id, constraint in data.drover.constraints.move_ladder
	is_array(constraint.params.forbid)
	forbidden := {rung | some rung in constraint.params.forbid}
	every rung in forbidden {
		is_string(rung)
	}
}

_message(forbidden) := "whatever helps may be done about a copy that gets nowhere" if count(forbidden) == 0

_message(forbidden) := $"a copy that gets nowhere is not helped by {names}" if {
	count(forbidden) > 0
	names := concat(", ", sort(forbidden))
}
