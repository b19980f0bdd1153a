# METADATA
# title: Trusted sites
# description: >-
#   Machines of a class live only at sites that are trusted with it. Before planning it keeps the planner away
#   from all others; a machine that is somewhere else already is told by an audit, not sent away.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "where no site is trusted with the class there is none to name"
#   params:
#     type: object
#     additionalProperties: false
#     required: [class, sites]
#     properties:
#       class: {type: string, minLength: 1}
#       sites: {type: array, items: {type: string, minLength: 1}, description: "the only ones; an empty list trusts none"}
#   example:
#     level: deny
#     params: {class: sensitive, sites: [north]}
package drover.rules.trusted_sites

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(strayed) == 0,
		"msg": concat("; ", sort(_messages(class, strayed))),
		"params": {"class": class, "sites": sites, "strayed": strayed},
		"limits": {"avoid": avoid},
	},
	nearest.fix({"site" | count(strayed) > 0}, {"site": site | site := _nearest(strayed, sites)}),
	pointers.first({pointers.proposed(input.environment.machines, one.machine, "site") | some one in strayed}),
]) if {
	some id, constraint in data.drover.constraints.trusted_sites
	class := constraint.params.class
	sites := constraint.params.sites
	is_string(class)
	is_array(sites)
	facts.whole
	every machine in input.environment.machines {
		is_string(machine.class)
	}
	strayed := {{"machine": arrival.machine.name, "site": arrival.site} |
		some arrival in facts.arrivals
		arrival.machine.class == class
		not arrival.site in sites
	}
	avoid := {{"machine": machine.name, "site": site.id} |
		some machine in facts.asked
		machine.class == class
		some site in input.sites
		not site.id in sites
		site.id != machine.site
	}
}

_nearest(strayed, sites) := nearest.site(asking, {site | some site in sites}) if {
	asking := [object.union(machine, {"site": _left(machine)}) |
		some one in strayed
		some machine in input.environment.machines
		machine.name == one.machine
	]
}

# in an audit where it is is what is wrong
_left(machine) := machine.site if not facts.standing

_left(_) := "" if facts.standing

_messages(class, strayed) := {$"class {class} stays at trusted sites"} if count(strayed) == 0

_messages(class, strayed) := {message |
	some one in strayed
	message := $"{one.site} is not trusted with class {class} ({one.machine})"
} if {
	count(strayed) > 0
}
