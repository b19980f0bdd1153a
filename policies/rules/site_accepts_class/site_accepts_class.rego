# METADATA
# title: Site accepts class
# description: >-
#   A site takes in only machines of the classes that its owner names. Judges arrivals: a machine that is already there
#   is not sent away by this rule.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "for what is nowhere yet: a site's owner knows what this site takes, not which other would"
#   params:
#     type: object
#     additionalProperties: false
#     required: [site, classes]
#     properties:
#       site: {type: string, minLength: 1}
#       classes: {type: array, items: {type: string, minLength: 1}}
#   example:
#     level: deny
#     params: {site: south, classes: [batch, interactive]}
package drover.rules.site_accepts_class

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(refused) == 0,
		"msg": concat("; ", sort(_messages(site, refused))),
		"params": {"site": site, "refused": refused},
		"limits": {"avoid": avoid},
	},
	nearest.fix({"site" | count(refused) > 0}, {"site": here | here := _nearest(refused)}),
	pointers.first({pointers.proposed(input.environment.machines, one.machine, "site") | some one in refused}),
]) if {
	some id, constraint in data.drover.constraints.site_accepts_class
	site := constraint.params.site
	classes := constraint.params.classes
	is_string(site)
	is_array(classes)
	facts.whole
	every machine in input.environment.machines {
		is_string(machine.class)
	}
	refused := {{"machine": machine.name, "class": machine.class} |
		some machine in input.environment.machines
		{"machine": machine, "site": site} in facts.arrivals
		not machine.class in classes
	}
	avoid := {{"machine": machine.name, "site": site} |
		some machine in facts.asked
		machine.site != site
		not machine.class in classes
	}
}

# where all of them are
_nearest(refused) := nearest.site(asking, set()) if {
	not facts.standing
	asking := [machine |
		some one in refused
		some machine in input.environment.machines
		machine.name == one.machine
	]
}

_messages(site, refused) := {$"{site} takes all that arrives"} if count(refused) == 0

_messages(site, refused) := {message |
	some machine in refused
	message := $"{site} does not take class {machine.class} ({machine.machine})"
} if {
	count(refused) > 0
}
