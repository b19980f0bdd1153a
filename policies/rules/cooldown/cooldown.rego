# METADATA
# title: Cooldown
# description: >-
#   How long to wait after a granted adaptation before the same machine, or anything of the environment, may be adapted
#   again. Keeps a controller that oscillates from wearing out what it controls. Giving back passes at any time.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [per, gap_ms]
#     properties:
#       per: {enum: [machine, environment]}
#       gap_ms: {type: integer, minimum: 1, maximum: 3600000, description: "the facts reach one hour back"}
#   example:
#     level: deny
#     match: {points: [request], subjects: [guest, automation]}
#     params: {per: machine, gap_ms: 30000}
package drover.rules.cooldown

import data.drover.lib.facts
import data.drover.lib.requests

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": ok,
		"msg": _message(ok, constraint.params.per, gap),
		"params": {"gap_ms": gap, "per": constraint.params.per, "adapted_ms": times},
	},
	_waiting(ok, times, gap),
) if {
	some id, constraint in data.drover.constraints.cooldown
	gap := constraint.params.gap_ms
	is_number(gap)
	gap <= 3600000
	constraint.params.per in {"machine", "environment"}
	facts.recent_whole
	facts.whole
	rows := input.environment.recent.requests
	times := {row.at_ms |
		some row in rows
		row.at_ms > input.now_ms - gap
		row.effect != "deny"
		row.kind in requests.adapting_kinds
		_same(constraint.params.per, row)
	}
	ok := _rested(times)
}

_same("environment", _)

_same("machine", row) if {
	some name in row.machines
	name in _named
}

# machines that are gone are not named any more: such a row may have been about any of them
_same("machine", row) if {
	count(row.machines) == 0
	row.kind != "rate"
}

_named := {machine.name | some machine in facts.changed} | {machine.name | some machine in facts.asked}

default _rested(_) := false

_rested(times) if count(times) == 0

_rested(_) if facts.relinquishing

# what the stack declares, and what nobody asked for, is no adaptation
_rested(_) if not input.request.kind in requests.adapting_kinds

_message(true, _, _) := "rested long enough"

_message(false, per, gap) := $"the {per} was adapted less than {gap} ms ago"

_waiting(true, _, _) := {}

_waiting(false, times, gap) := {"fix": {"retry_after_ms": (last + gap) - input.now_ms}, "path": path} if {
	last := max(times)
	path := min({$"/environment/recent/requests/{index}/at_ms" |
		some index, row in input.environment.recent.requests
		row.at_ms == last
	})
}
