# METADATA
# title: Disruption budget
# description: >-
#   How many machines of a group may be moved within a time, counted by who causes it: a drain by an operator and
#   a guest's own wish are different budgets. Counts machines, not moves: one machine moved twice is one.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "more machines at once than the budget has fit at no time, and nobody knows which to leave out"
#   params:
#     type: object
#     additionalProperties: false
#     required: [causes, group, max_machines, window_ms]
#     properties:
#       causes: {type: array, minItems: 1, items: {enum: [guest, operator, automation, stack, shepherd]}}
#       group: {type: string, minLength: 1, description: "name of a group; * = all machines of the environment"}
#       max_machines: {type: integer, minimum: 0}
#       window_ms: {type: integer, minimum: 1000, maximum: 86400000, description: "the facts reach one day back"}
#   example:
#     level: deny
#     params: {causes: [operator, automation], group: "*", max_machines: 2, window_ms: 3600000}
package drover.rules.disruption_budget

import data.drover.lib.facts
import data.drover.lib.groups
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{"ok": ok, "msg": _message(ok, disrupted, limit, window), "params": {
		"machines": disrupted,
		"max_machines": limit,
		"window_ms": window,
		"causes": causes,
	}},
	_waiting(ok, [rows, moved], limit, window),
	pointers.first({pointers.proposed(input.environment.machines, name, "host") | not ok; some name in moved}),
]) if {
	some id, constraint in data.drover.constraints.disruption_budget
	limit := constraint.params.max_machines
	window := constraint.params.window_ms
	causes := constraint.params.causes
	is_number(limit)
	is_number(window)
	window <= 86400000
	is_array(causes)
	is_string(constraint.params.group)
	facts.moves_whole
	facts.whole
	names := {member.name | some member in groups.members(constraint.params.group, input.environment.machines)}
	rows := [row |
		some row in input.environment.moves.rows
		row.at_ms > input.now_ms - window
		row.outcome != "failed"
		row.cause in causes
		row.machine in names
	]
	moved := {machine.name | some machine in facts.moving; machine.name in names}
	disrupted := {row.machine | some row in rows} | moved
	ok := _within(count(disrupted), limit, [count(moved), input.subject.type in causes])
}

default _within(_, _, _) := false

_within(disrupted, limit, _) if disrupted <= limit

# nothing of the group would be moved, or by somebody else
_within(_, _, [0, _])

_within(_, _, [_, false])

_message(true, _, _, _) := "the disruption budget holds"

_message(false, disrupted, limit, window) := $"{names} would be disrupted within {window} ms, at most {limit} may" if {
	names := concat(", ", sort(disrupted))
}

_waiting(true, _, _, _) := {}

# until so many no longer count that these fit
_waiting(false, [rows, moved], limit, window) := nearest.wait(waits) if {
	waits := {((row.at_ms + window) - input.now_ms) |
		some row in rows
		left := {other.machine | some other in rows; other.at_ms > row.at_ms}
		count(left | moved) <= limit
	}
}
