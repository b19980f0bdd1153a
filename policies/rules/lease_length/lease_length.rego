# METADATA
# title: Lease length
# description: >-
#   How long an adaptation may be asked for before it has to be asked for again. `longer: cut` grants it for the longest
#   time allowed, `refuse` denies it and says how long would pass. Without a lease it would last until it is released.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [max_ms, longer]
#     properties:
#       max_ms: {type: integer, minimum: 1000}
#       longer: {enum: [cut, refuse]}
#   example:
#     level: deny
#     match: {subjects: [guest, automation]}
#     params: {max_ms: 14400000, longer: cut}
package drover.rules.lease_length

import data.drover.lib.facts
import data.drover.lib.requests

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{"ok": ok, "msg": _message(lease, longest, constraint.params.longer), "params": {
		"lease_ms": lease,
		"max_ms": longest,
	}},
	_consequence(lease, longest, constraint.params.longer),
) if {
	some id, constraint in data.drover.constraints.lease_length
	longest := constraint.params.max_ms
	is_number(longest)
	constraint.params.longer in {"cut", "refuse"}
	lease := object.get(input.request, "lease_ms", null)
	facts.whole
	ok := _passes(lease, longest, constraint.params.longer)
}

# no lease is the longest lease there is
_is_longer(null, _) if _leased

_is_longer(lease, longest) if {
	is_number(lease)
	_leased
	lease > longest
}

# only adaptations have a lease, and not those that give back
_leased if {
	input.request.kind in requests.adapting_kinds
	not facts.relinquishing
}

default _passes(_, _, _) := false

_passes(lease, longest, _) if not _is_longer(lease, longest)

_passes(_, _, "cut")

_message(lease, longest, _) := "the lease is short enough" if not _is_longer(lease, longest)

_message(lease, longest, "cut") := $"granted for {longest} ms at most" if _is_longer(lease, longest)

_message(lease, longest, "refuse") := $"a lease of at most {longest} ms is granted" if _is_longer(lease, longest)

_consequence(lease, longest, _) := {} if not _is_longer(lease, longest)

_consequence(lease, longest, "cut") := {"limits": {"ttl_ms": longest}} if _is_longer(lease, longest)

_consequence(lease, longest, "refuse") := {"fix": {"lease_ms": longest}, "path": "/request/lease_ms"} if {
	_is_longer(lease, longest)
}
