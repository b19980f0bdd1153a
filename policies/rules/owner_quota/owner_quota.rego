# METADATA
# title: Owner quota
# description: >-
#   What all environments of one owner may take together. Only a total that grows is judged, so that an owner over a
#   lowered quota can still give back. Who is meant stands in `match.owners`; without it every owner has this quota.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "machines that ask for different sizes have no one nearest size, and nobody knows which machine's disk to leave out"
#   params:
#     type: object
#     additionalProperties: false
#     required:
#       - max_environments
#       - max_machines
#       - max_vcpus
#       - max_cpu_percent
#       - max_memory_mib
#       - max_disk_gib
#       - max_rate_mbps
#     properties:
#       max_environments: {type: integer, minimum: 0}
#       max_machines: {type: integer, minimum: 0}
#       max_vcpus: {type: integer, minimum: 0}
#       max_cpu_percent: {type: integer, minimum: 0, description: "sum of the caps, in percent of one core"}
#       max_memory_mib: {type: integer, minimum: 0}
#       max_disk_gib: {type: integer, minimum: 0, description: "sum of what the machines' own disks may come to take"}
#       max_rate_mbps: {type: integer, minimum: 0, description: "sum of all links' promised rates"}
#   example:
#     level: deny
#     match: {owners: [alice]}
#     params:
#       max_environments: 4
#       max_machines: 32
#       max_vcpus: 64
#       max_cpu_percent: 3200
#       max_memory_mib: 65536
#       max_disk_gib: 500
#       max_rate_mbps: 20000
package drover.rules.owner_quota

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
	some id, constraint in data.drover.constraints.owner_quota
	every attribute in _attributes {
		is_number(constraint.params[$"max_{attribute}"])
		is_number(input.owner.others[attribute])
	}
	facts.whole
	facts.links_whole
	over := {attribute: {"before": before[attribute], "after": after[attribute], "max": limit} |
		not facts.relinquishing
		some attribute in _attributes
		limit := constraint.params[$"max_{attribute}"]
		after[attribute] > limit
		_judged(attribute)
	}
}

_attributes := ["environments", "machines", "vcpus", "cpu_percent", "memory_mib", "disk_gib", "rate_mbps"]

# only what grows; in an audit what is
_judged(attribute) if after[attribute] > before[attribute]

_judged(_) if facts.standing

before := {attribute: total |
	some attribute in _attributes
	total := input.owner.others[attribute] + _own(facts.before)[attribute]
}

after := {attribute: total |
	some attribute in _attributes
	total := input.owner.others[attribute] + _own(facts.after)[attribute]
}

# an environment counts when it has a machine
_own(totals) := object.union(totals, {"environments": min([totals.machines, 1])})

_messages(over) := {"within the owner's quota"} if count(over) == 0

_messages(over) := {message |
	some attribute, total in over
	message := $"{attribute} of all environments of {input.owner.name} would be {total.after}, the quota is {total.max}"
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
	total := (limit - after[attribute]) + sum([machine.proposed[attribute] | some machine in growing])
}

_nearest("rate_mbps", limit) := nearest.rate(growing, total) if {
	growing := nearest.growing_links(input.environment.links)
	total := (limit - after.rate_mbps) + sum([link.proposed_mbps | some link in growing])
}
