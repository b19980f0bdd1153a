# METADATA
# title: Environment quota
# description: >-
#   What all machines and links of an environment may take together. Only a total that grows is judged, so that an
#   environment over a lowered quota can still give back. A move counts once here; its double occupancy is the hosts'.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "machines that ask for different sizes have no one nearest size, and nobody knows which machine's disk to leave out"
#   params:
#     type: object
#     additionalProperties: false
#     required: [max_machines, max_vcpus, max_cpu_percent, max_memory_mib, max_disk_gib, max_rate_mbps]
#     properties:
#       max_machines: {type: integer, minimum: 0}
#       max_vcpus: {type: integer, minimum: 0}
#       max_cpu_percent: {type: integer, minimum: 0, description: "sum of the caps, in percent of one core"}
#       max_memory_mib: {type: integer, minimum: 0}
#       max_disk_gib: {type: integer, minimum: 0, description: "sum of what the machines' own disks may come to take"}
#       max_rate_mbps: {type: integer, minimum: 0, description: "sum of all links' promised rates"}
#   example:
#     level: deny
#     params:
#       max_machines: 16
#       max_vcpus: 32
#       max_cpu_percent: 1600
#       max_memory_mib: 16384
#       max_disk_gib: 400
#       max_rate_mbps: 20000
package drover.rules.environment_quota

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(over) == 0,
		"msg": concat("; ", sort(_messages(over))),
		"params": {"over": over},
	},
	_fix(over),
	pointers.first({pointers.total(input.environment, attribute) | some attribute in object.keys(over)}),
]) if {
	some id, constraint in data.drover.constraints.environment_quota
	limits := {
		"machines": constraint.params.max_machines,
		"vcpus": constraint.params.max_vcpus,
		"cpu_percent": constraint.params.max_cpu_percent,
		"memory_mib": constraint.params.max_memory_mib,
		"disk_gib": constraint.params.max_disk_gib,
		"rate_mbps": constraint.params.max_rate_mbps,
	}
	every limit in limits {
		is_number(limit)
	}
	facts.whole
	facts.links_whole
	over := {attribute: {"before": facts.before[attribute], "after": facts.after[attribute], "max": limit} |
		not facts.relinquishing
		some attribute, limit in limits
		facts.after[attribute] > limit
		_judged(attribute)
	}
}

# only what grows; in an audit what is
_judged(attribute) if facts.after[attribute] > facts.before[attribute]

_judged(_) if facts.standing

_messages(over) := {"within the quota"} if count(over) == 0

_messages(over) := {message |
	some attribute, total in over
	message := $"{attribute} of the environment would be {total.after}, its quota is {total.max}"
} if {
	count(over) > 0
}

# of a group that is scaled how many there may be, else sizes and rates
_fix(over) := nearest.fix(over, {attribute: value |
	some attribute in object.keys(over)
	value := _nearest(attribute, over[attribute].max)
}) if {
	input.request.kind != "scale"
}

_fix(over) := nearest.fix({"machines" | count(over) > 0}, {"machines": value |
	count(over) > 0
	value := nearest.members(input.environment.machines, over)
}) if {
	input.request.kind == "scale"
}

# the value that all machines which grow could have, or all links
_nearest(attribute, limit) := nearest.size(growing, attribute, total) if {
	attribute in machines.attributes
	growing := nearest.growing(input.environment.machines, attribute)
	total := (limit - facts.after[attribute]) + sum([machine.proposed[attribute] | some machine in growing])
}

_nearest("rate_mbps", limit) := nearest.rate(growing, total) if {
	growing := nearest.growing_links(input.environment.links)
	total := (limit - facts.after.rate_mbps) + sum([link.proposed_mbps | some link in growing])
}
