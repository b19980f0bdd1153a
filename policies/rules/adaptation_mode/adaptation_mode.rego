# METADATA
# title: Adaptation mode
# description: >-
#   What the stack's `mode` asks for: one instance a mode, its level says what happens. `pinned` and `advise` deny,
#   `approve` waits for a person. The stack's own changes, and giving back, are not adaptations.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "the stack sets the mode; no value of a request changes it"
#   params:
#     type: object
#     additionalProperties: false
#     required: [mode]
#     properties:
#       mode: {enum: [approve, advise, pinned], description: "the mode that this instance judges"}
#   example:
#     level: approve
#     params: {mode: approve}
package drover.rules.adaptation_mode

import data.drover.lib.facts
import data.drover.lib.pointers
import data.drover.lib.requests

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{"ok": count(held) == 0, "msg": _message(mode, held), "params": {"mode": mode, "machines": held}},
	pointers.first({pointers.machine(input.environment.machines, name, "envelope/mode") | some name in held}),
) if {
	some id, constraint in data.drover.constraints.adaptation_mode
	mode := constraint.params.mode
	mode in {"approve", "advise", "pinned"}
	facts.whole
	held := {machine.name |
		input.request.kind in requests.adapting_kinds
		not facts.relinquishing
		some machine in facts.changed
		machine.envelope.mode == mode
	}
}

_message(mode, held) := $"no machine of mode {mode} would change" if count(held) == 0

_message(mode, held) := $"{names}: the stack sets mode {mode}" if {
	count(held) > 0
	names := concat(", ", sort(held))
}
