# METADATA
# title: Source releases
# description: >-
#   Which machines may leave a site: those of the classes named here. The others are data that its owner keeps, or
#   that the law keeps, at that site. Destroying a machine is not leaving.
# custom:
#   disclose: owner
#   level: deny
#   params:
#     type: object
#     additionalProperties: false
#     required: [site, classes]
#     properties:
#       site: {type: string, minLength: 1}
#       classes: {type: array, items: {type: string, minLength: 1}, description: "classes that may leave; * = all"}
#   example:
#     level: deny
#     params: {site: north, classes: [batch, interactive]}
package drover.rules.source_releases

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(kept) == 0,
		"msg": concat("; ", sort(_messages(site, kept))),
		"params": {"site": site, "kept": kept},
		"limits": {"avoid": avoid},
	},
	nearest.fix({"site" | count(kept) > 0}, {"site": site | count(kept) > 0}),
	pointers.first({pointers.proposed(input.environment.machines, one.machine, "site") | some one in kept}),
]) if {
	some id, constraint in data.drover.constraints.source_releases
	site := constraint.params.site
	classes := constraint.params.classes
	is_string(site)
	is_array(classes)
	facts.whole
	every machine in input.environment.machines {
		is_string(machine.class)
	}
	kept := {{"machine": machine.name, "class": machine.class} |
		some machine in facts.moving
		machine.site == site
		machine.proposed.site != site
		not _released(machine, classes)
	}
	avoid := {{"machine": machine.name, "site": other.id} |
		some machine in facts.asked
		machine.site == site
		not _released(machine, classes)
		some other in input.sites
		other.id != site
	}
}

_released(_, classes) if "*" in classes

_released(machine, classes) if machine.class in classes

_messages(site, kept) := {$"{site} lets go what leaves"} if count(kept) == 0

_messages(site, kept) := {message |
	some one in kept
	message := $"{site} does not let go of class {one.class} ({one.machine})"
} if {
	count(kept) > 0
}
