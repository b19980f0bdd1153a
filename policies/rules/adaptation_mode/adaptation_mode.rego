# METADATA
# title: Adaptation mode
# description: >-
#   What the stack's `mode` asks for: one instance a mode, its level says what happens. `pinned` and `advise` deny,
#   `approve` waits for a person. The stack's own changes, and giving back, are not adaptations.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [mode]
#     properties:
#       mode: {enum: [approve, advise, pinned], description: "the mode that this instance judges"}
package drover.rules.adaptation_mode

import data.drover.lib.machines
import data.drover.lib.requests

about := rego.metadata.chain()[1].annotations

checks[id] := {"ok": count(held) == 0, "msg": _message(mode, held), "params": {"mode": mode, "machines": held}} if {
	some id, constraint in data.drover.constraints.adaptation_mode
	mode := constraint.params.mode
	mode in {"approve", "advise", "pinned"}
	machines.whole(input.environment.machines)
	held := {machine.name |
		input.request.kind in requests.adapting_kinds
		not requests.relinquishes(input.request, input.environment)
		some machine in input.environment.machines
		machine.envelope.mode == mode
		machines.changes(machine)
	}
}

_message(mode, held) := $"no machine of mode {mode} would change" if count(held) == 0

_message(mode, held) := $"{names}: the stack sets mode {mode}" if {
	count(held) > 0
	names := concat(", ", sort(held))
}
