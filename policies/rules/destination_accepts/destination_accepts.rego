# METADATA
# title: Destination accepts
# description: >-
#   What a site's owner lets in: machines of which owners, and how large one machine may be. Judges arrivals, and
#   machines that grow there beyond the size; a machine that is already there is not sent away.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "for somebody else's machine that is nowhere yet: a site's owner knows what this site takes, not which other would"
#   params:
#     type: object
#     additionalProperties: false
#     required: [site, owners, max_cpu_percent, max_memory_mib]
#     properties:
#       site: {type: string, minLength: 1}
#       owners: {type: array, items: {type: string, minLength: 1}, description: "of environments; * = everybody"}
#       max_cpu_percent: {type: integer, minimum: 0, description: "of one machine"}
#       max_memory_mib: {type: integer, minimum: 0, description: "of one machine"}
#   example:
#     level: deny
#     params: {site: south, owners: ["*"], max_cpu_percent: 400, max_memory_mib: 8192}
package drover.rules.destination_accepts

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(refused) == 0,
		"msg": concat("; ", sort(_messages(refused, site))),
		"params": {"site": site, "refused": refused},
		"limits": {"avoid": avoid},
	},
	_nearest(refused),
	pointers.first({_where(one) | some one in refused}),
]) if {
	some id, constraint in data.drover.constraints.destination_accepts
	site := constraint.params.site
	owners := constraint.params.owners
	limits := {"cpu_percent": constraint.params.max_cpu_percent, "memory_mib": constraint.params.max_memory_mib}
	is_string(site)
	is_array(owners)
	every limit in limits {
		is_number(limit)
	}
	facts.whole
	refused := _unwelcome(site, owners) | _large(site, limits)
	avoid := {{"machine": machine.name, "site": site} |
		some machine in facts.asked
		machine.site != site
		_unfit(machine, owners, limits)
	}
}

_unwelcome(site, owners) := {{"machine": arrival.machine.name, "attribute": "owner", "value": input.environment.owner} |
	not _welcome(owners)
	some arrival in facts.arrivals
	arrival.site == site
}

_welcome(owners) if "*" in owners

_welcome(owners) if input.environment.owner in owners

_large(site, limits) := {refusal |
	some machine in input.environment.machines
	machine.proposed.site == site
	some attribute, limit in limits
	machine.proposed[attribute] > limit
	_judged(machine, site, attribute)
	refusal := {"machine": machine.name, "attribute": attribute, "value": machine.proposed[attribute], "max": limit}
}

_judged(machine, site, _) if machine.site != site

_judged(machine, _, attribute) if machines.grows(machine, attribute)

_judged(_, _, _) if facts.standing

_unfit(_, owners, _) if not _welcome(owners)

_unfit(machine, _, limits) if {
	some attribute, limit in limits
	machine.proposed[attribute] > limit
}

# sizes that it takes; of somebody whom it does not take, where all of them are
_nearest(refused) := {} if count(refused) == 0

_nearest(refused) := {"fix": {one.attribute: one.max | some one in refused}} if {
	count(refused) > 0
	every one in refused {
		one.attribute != "owner"
	}
}

_nearest(refused) := nearest.fix({"site"}, {"site": site | site := nearest.site(asking, set())}) if {
	asking := [machine |
		not facts.standing
		some one in refused
		one.attribute == "owner"
		some machine in input.environment.machines
		machine.name == one.machine
	]
	"owner" in {one.attribute | some one in refused}
}

_where(one) := "/environment/owner" if one.attribute == "owner"

_where(one) := pointers.proposed(input.environment.machines, one.machine, one.attribute) if one.attribute != "owner"

_messages(refused, site) := {$"{site} takes all that arrives"} if count(refused) == 0

_messages(refused, site) := {message | some one in refused; message := _message(one, site)} if count(refused) > 0

_message(one, site) := $"{site} takes nothing of {one.value} ({one.machine})" if one.attribute == "owner"

_message(one, site) := $"{site} takes machines of at most {limit}, {one.machine} would have {value}" if {
	one.attribute != "owner"
	limit := machines.size(one.attribute, one.max)
	value := machines.size(one.attribute, one.value)
}
