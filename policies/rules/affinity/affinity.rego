# METADATA
# title: Affinity
# description: >-
#   Machines of a group stay together at one site, or on one host, because what they say to each other is worth more than
#   where they are. A request may not spread them over more places than they are in now and than is allowed; before
#   planning it hands the planner who belongs together, so that several which move at once go to the same place.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "a request names sites, not hosts: those are for the planner to choose"
#   params:
#     type: object
#     additionalProperties: false
#     required: [group, together, max_places]
#     properties:
#       group: {type: string, minLength: 1, description: "name of a group; * = all machines of the environment"}
#       together: {enum: [host, site]}
#       max_places: {type: integer, minimum: 1}
#   example:
#     level: deny
#     match: {classes: [batch]}
#     params: {group: rank, together: site, max_places: 1}
package drover.rules.affinity

import data.drover.lib.facts
import data.drover.lib.groups
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": ok,
		"msg": _message(ok, constraint.params, after),
		"params": {"group": constraint.params.group, "together": together, "max_places": limit, "places": after},
		"limits": {"avoid": avoid, "together": kept},
	},
	nearest.fix({"site" | not ok}, {"site": site | not ok; site := _nearest(together, members, after, [before, limit])}),
	pointers.first({pointers.proposed(input.environment.machines, member.name, together) |
		not ok
		some member in members
		groups.comes(member, together, facts.standing)
	}),
]) if {
	some id, constraint in data.drover.constraints.affinity
	together := constraint.params.together
	together in {"host", "site"}
	limit := constraint.params.max_places
	is_number(limit)
	is_string(constraint.params.group)
	facts.whole
	members := groups.members(constraint.params.group, input.environment.machines)
	before := {member[together] | some member in members} - {""}
	after := {member.proposed[together] | some member in members} - {""}
	ok := _close(before, after, limit)

	# what the planner may do with those that it is to place: one after the other they end up at the same place
	names := {member.name | some member in members}
	kept := {{"machines": sort(names), "per": together, "most": limit} |
		count(names) > 1
		count({name | some name in names; name in input.request.machines}) > 0
	}
	avoid := {{"machine": member.name, "site": site.id} |
		together == "site"
		some member in members
		member.name in input.request.machines
		places := {other.site | some other in members; not other.name in input.request.machines} - {""}
		count(places) >= limit
		some site in input.sites
		not site.id in places
		site.id != member.site
	}
}

default _close(_, _, _) := false

_close(_, after, limit) if count(after) <= limit

# it was as far apart before
_close(before, after, _) if {
	not facts.standing
	count(after) <= count(before)
}

# the first site at which those that come there make the group no wider than it may be: with those that stay, if any do
_nearest("site", members, after, [before, limit]) := min(fitting) if {
	staying := {member.proposed.site |
		some member in members
		not groups.comes(member, "site", facts.standing)
	} - {""}
	fitting := {site |
		some site in (staying | {place | count(staying) == 0; some place in after})
		_close(before, staying | {site}, limit)
	}
	count(fitting) > 0
}

_message(true, _, _) := "the group stays together"

_message(false, params, after) := $"group {params.group} would be spread over {places}" if {
	places := concat(", ", sort(after))
}
