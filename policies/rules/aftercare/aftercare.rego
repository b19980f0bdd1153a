# METADATA
# title: Aftercare
# description: >-
#   What is owed after a yes: from which size on, or for which moves, somebody is told, the hosts are asked whether it is
#   in force, and a named person who did not ask looks at it afterwards. What is missed is told, or given back. It never
#   says no.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [vcpus, cpu_percent, memory_mib, moves, notify]
#     properties:
#       vcpus: {type: integer, minimum: 0, description: "of one machine that grows; above it there is something owed"}
#       cpu_percent: {type: integer, minimum: 0}
#       memory_mib: {type: integer, minimum: 0}
#       moves: {type: boolean, description: "also for every machine that is moved"}
#       notify:
#         type: array
#         items: {type: string, minLength: 1, maxLength: 128}
#         description: "who is told with the grant: the event `obligation.told`"
#       verify:
#         type: object
#         additionalProperties: false
#         required: [within_ms, otherwise]
#         properties:
#           within_ms: {type: integer, minimum: 1000, maximum: 2592000000}
#           otherwise: {type: string, enum: [tell, release]}
#       review:
#         type: object
#         additionalProperties: false
#         required: [within_ms, otherwise]
#         properties:
#           within_ms: {type: integer, minimum: 1000, maximum: 2592000000}
#           otherwise: {type: string, enum: [tell, release]}
#   example:
#     level: deny
#     match: {subjects: [guest, automation]}
#     params:
#       vcpus: 4
#       cpu_percent: 200
#       memory_mib: 4096
#       moves: false
#       notify: [security]
#       verify: {within_ms: 60000, otherwise: release}
#       review: {within_ms: 86400000, otherwise: tell}
package drover.rules.aftercare

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": true,
		"msg": concat("; ", sort(_messages(reasons))),
		"params": {"reasons": reasons},
		"obligations": {demand | count(reasons) > 0; some demand in demands},
	},
	pointers.first({pointers.proposed(input.environment.machines, one.machine, one.attribute) | some one in reasons}),
) if {
	some id, constraint in data.drover.constraints.aftercare
	params := constraint.params
	every attribute in machines.attributes {
		is_number(params[attribute])
	}
	is_boolean(params.moves)
	is_array(params.notify)
	demands := _demands(params)
	facts.whole
	reasons := _grown(params) | _moved(params.moves)
}

_grown(params) := {one |
	not facts.relinquishing
	some grown in facts.growths
	value := grown.machine.proposed[grown.attribute]
	value > params[grown.attribute]
	one := {
		"machine": grown.machine.name,
		"attribute": grown.attribute,
		"value": value,
		"threshold": params[grown.attribute],
	}
}

_moved(false) := set()

_moved(true) := {{"machine": machine.name, "attribute": "site", "value": machine.proposed.site} |
	some machine in facts.moving
}

# one for everybody who is told, and one for each of the others that there is
_demands(params) := told | {{"id": id, "params": params[id]} |
	some id in ["verify", "review"]
	is_object(params[id])
} if {
	told := {{"id": "notify", "params": {"to": name}} | some name in params.notify}
}

_messages(reasons) := {"nothing that anything is owed for"} if count(reasons) == 0

_messages(reasons) := {_what(one) | some one in reasons} if count(reasons) > 0

_what(one) := $"{one.machine} would be moved" if one.attribute == "site"

_what(one) := $"{one.machine} would have {value}, more than {threshold}" if {
	one.attribute != "site"
	value := machines.size(one.attribute, one.value)
	threshold := machines.size(one.attribute, one.threshold)
}
