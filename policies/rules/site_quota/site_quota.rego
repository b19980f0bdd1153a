# METADATA
# title: Site quota
# description: >-
#   What one environment, one owner or everybody together may take at one site. Counted at the peak of the change: an
#   arrival counts whole, and what leaves frees nothing before it has left. Only what adds is judged.
# custom:
#   disclose: operator
#   level: deny
#   no_fix: "machines that ask for different sizes have no one nearest size, one that is only moved cannot be made smaller, and nobody knows which machine to leave out"
#   params:
#     type: object
#     additionalProperties: false
#     required: [site, per, max_machines, max_cpu_percent, max_memory_mib, max_disk_gib]
#     properties:
#       site: {type: string, minLength: 1}
#       per: {enum: [environment, owner, all]}
#       max_machines: {type: integer, minimum: 0}
#       max_cpu_percent: {type: integer, minimum: 0}
#       max_memory_mib: {type: integer, minimum: 0}
#       max_disk_gib: {type: integer, minimum: 0}
#   example:
#     level: deny
#     params: {site: south, per: owner, max_machines: 8, max_cpu_percent: 400, max_memory_mib: 8192, max_disk_gib: 100}
package drover.rules.site_quota

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers
import data.drover.lib.shares

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(over) == 0,
		"msg": concat("; ", sort(_messages(constraint.params, over))),
		"params": {"site": site.id, "per": constraint.params.per, "over": over},
	},
	nearest.fix(over, {attribute: value |
		some attribute, _ in over
		total := shares.together(site.id, input.environment.machines, room)[attribute]
		value := nearest.size(shares.asking(site.id, input.environment.machines, attribute), attribute, total)
	}),
	pointers.first({pointers.site(input.sites, site.id, "shares") | count(over) > 0}),
]) if {
	some id, constraint in data.drover.constraints.site_quota
	every attribute in shares.attributes {
		is_number(constraint.params[$"max_{attribute}"])
	}
	some site in input.sites
	site.id == constraint.params.site
	shares.readable(site, constraint.params.per)
	facts.whole
	now := shares.totals(site, constraint.params.per, input.environment)
	added := shares.added(site.id, input.environment.machines)
	room := {attribute: (constraint.params[$"max_{attribute}"] - now[attribute]) | some attribute in shares.attributes}
	over := {attribute: {"before": now[attribute], "after": after, "max": limit} |
		not facts.relinquishing
		some attribute in shares.attributes
		limit := constraint.params[$"max_{attribute}"]
		after := now[attribute] + added[attribute]
		after > limit
		_judged(added[attribute])
	}
}

_judged(added) if added > 0

_judged(_) if facts.standing

_messages(_, over) := {"within the site's quota"} if count(over) == 0

_messages(params, over) := {message |
	some attribute, total in over
	message := $"{attribute} of {_whose(params.per)} at {params.site} would be {total.after}, the quota is {total.max}"
} if {
	count(over) > 0
}

_whose("environment") := "the environment"

_whose("owner") := "its owner"

_whose("all") := "everybody"
