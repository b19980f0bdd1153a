# METADATA
# title: Request rate
# description: >-
#   How many requests one asker, or a whole environment, may make in a window of at most the last hour. Requests that
#   only give back pass and do not count; nor does what the stack declares, so that a large apply silences no guest.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [per, max_requests, window_ms]
#     properties:
#       per: {enum: [subject, environment]}
#       max_requests: {type: integer, minimum: 1}
#       window_ms: {type: integer, minimum: 1000, maximum: 3600000, description: "the facts reach one hour back"}
#   example:
#     level: deny
#     match: {points: [request], subjects: [guest, automation]}
#     params: {per: subject, max_requests: 30, window_ms: 60000}
package drover.rules.request_rate

import data.drover.lib.facts
import data.drover.lib.requests

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{"ok": ok, "msg": $"{count(times)} requests of {who} in {window} ms, at most {limit}", "params": {
		"count": count(times),
		"max_requests": limit,
		"window_ms": window,
		"per": constraint.params.per,
	}},
	_waiting(ok, times, limit, window),
) if {
	some id, constraint in data.drover.constraints.request_rate
	limit := constraint.params.max_requests
	window := constraint.params.window_ms
	is_number(limit)
	limit >= 1
	is_number(window)
	window <= 3600000
	facts.recent_whole
	rows := input.environment.recent.requests
	who := _who(constraint.params.per)
	times := sort([row.at_ms |
		some row in rows
		row.at_ms > input.now_ms - window
		not row.kind in _uncounted
		_counts(constraint.params.per, row)
	])
	ok := _fits(count(times), limit)
}

_uncounted := requests.relinquishing_kinds | {"create", "update"}

_who("subject") := input.subject.name

_who("environment") := $"environment {input.environment.name}"

_counts("subject", row) if row.subject == input.subject.name

_counts("environment", _)

default _fits(_, _) := false

_fits(made, limit) if made < limit

_fits(_, _) if facts.relinquishing

_fits(_, _) if facts.standing

_waiting(true, _, _, _) := {}

_waiting(false, times, limit, window) := {
	"fix": {"retry_after_ms": (times[count(times) - limit] + window) - input.now_ms},
	"path": "/environment/recent/total",
}
