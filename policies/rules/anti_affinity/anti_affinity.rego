# METADATA
# title: Anti-affinity
# description: >-
#   Machines of a group do not share a host, or a site: what takes one of them down leaves the others. Before planning
#   it keeps the planner away from places that are full; on the plan it judges what arrives. Machines that share a place
#   already are not driven apart.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "a request names sites, not hosts; and of several that share a site nobody knows which is to leave"
#   params:
#     type: object
#     additionalProperties: false
#     required: [group, apart, max_together]
#     properties:
#       group: {type: string, minLength: 1, description: "name of a group; * = all machines of the environment"}
#       apart: {enum: [host, site]}
#       max_together: {type: integer, minimum: 1}
#   example:
#     level: deny
#     match: {environments: [ring]}
#     params: {group: rank, apart: host, max_together: 1}
package drover.rules.anti_affinity

import data.drover.lib.facts
import data.drover.lib.groups
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(crowded) == 0,
		"msg": concat("; ", sort(_messages(apart, limit, crowded))),
		"params": {"group": constraint.params.group, "apart": apart, "max_together": limit, "crowded": crowded},
		"limits": {"avoid": avoid, "apart": together_now},
	},
	nearest.fix({"site" | count(crowded) > 0}, {"site": site | site := _nearest(apart, coming, free)}),
	pointers.first({pointers.proposed(input.environment.machines, member.name, apart) |
		some together in crowded
		some member in members
		member.name in together
		groups.comes(member, apart, facts.standing)
	}),
]) if {
	some id, constraint in data.drover.constraints.anti_affinity
	apart := constraint.params.apart
	apart in {"host", "site"}
	limit := constraint.params.max_together
	is_number(limit)
	is_string(constraint.params.group)
	facts.whole
	members := groups.members(constraint.params.group, input.environment.machines)
	crowded := {place: together |
		some place in {member.proposed[apart] | some member in members; groups.comes(member, apart, facts.standing)}
		together := {member.name | some member in members; member.proposed[apart] == place}
		count(together) > limit
	}

	coming := [member |
		some together in crowded
		some member in members
		member.name in together
		groups.comes(member, apart, facts.standing)
	]
	free := {site.id |
		count(coming) == 1
		some site in input.sites
		count([other | some other in members; other.proposed.site == site.id]) < limit
	}

	# several that the planner is to place at once: it must not bring them together either
	asked := {member.name | some member in members; member.name in input.request.machines}
	together_now := {{"machines": sort({member.name | some member in members}), "per": apart, "most": limit} |
		count(asked) > 1
	}
	avoid := {{"machine": member.name, apart: place} |
		some member in members
		member.name in input.request.machines
		some place in ({other.proposed[apart] | some other in members} - {""})
		count({other.name | some other in members; other.name != member.name; other.proposed[apart] == place}) >= limit
		place != member[apart]
	}
}

# where all of them are, or for one that is nowhere yet the first site that is not full
_nearest("site", coming, free) := nearest.site(coming, free) if not facts.standing

_messages(_, _, crowded) := {"nothing that belongs apart comes together"} if count(crowded) == 0

_messages(apart, limit, crowded) := {message |
	some place, together in crowded
	names := concat(", ", sort(together))
	message := $"{names} would share {apart} {place}, at most {limit} may"
} if {
	count(crowded) > 0
}
