# METADATA
# title: Dominant share
# description: >-
#   Fairness at a site. An environment's dominant share is the largest part that it takes of anything lent there: CPU,
#   memory or disk. While the site is contended, no environment may add to a dominant share above an equal part of
#   what is lent, plus a tolerance. What it has already is not taken away.
# custom:
#   disclose: operator
#   level: deny
#   no_fix: "machines that ask for different sizes have no one nearest size, one that is only moved cannot be made smaller, and who is above a fair share already gets no more of it"
#   params:
#     type: object
#     additionalProperties: false
#     required: [site, contended_percent, tolerance_percent]
#     properties:
#       site: {type: string, minLength: 1}
#       contended_percent:
#         {type: integer, minimum: 0, maximum: 100, description: "the site is contended when more of anything is taken"}
#       tolerance_percent: {type: integer, minimum: 0, maximum: 100, description: "above the equal part, in points"}
#   example:
#     level: deny
#     match: {points: [plan]}
#     params: {site: north, contended_percent: 70, tolerance_percent: 5}
package drover.rules.dominant_share

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers
import data.drover.lib.shares

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": ok,
		"msg": _message(ok, site.id, report),
		"params": report,
	},
	_nearest(ok, site, added, [
		{"held": now, "percent": report.fair_percent},
		{"held": taken, "percent": contended},
	]),
	pointers.first({pointers.site(input.sites, site.id, "shares") | not ok}),
]) if {
	some id, constraint in data.drover.constraints.dominant_share
	contended := constraint.params.contended_percent
	tolerance := constraint.params.tolerance_percent
	is_number(contended)
	is_number(tolerance)
	some site in input.sites
	site.id == constraint.params.site
	site.view == "whole"
	shares.readable(site, "all")
	count(site.hosts) > 0
	every host in site.hosts {
		every attribute in resources {
			is_number(host.lend[attribute])
			is_number(host.used[attribute])
			is_number(host.reserved[attribute])
		}
	}
	facts.whole
	added := shares.added(site.id, input.environment.machines)
	now := shares.totals(site, "environment", input.environment)
	taken := {attribute: _taken(site, attribute) | some attribute in resources}
	sharers := {share.environment | some share in site.shares.rows} | {input.environment.name}
	report := {
		"share_percent": max([shares.percent(now[attribute] + added[attribute], _lent(site, attribute)) |
			some attribute in resources
		]),
		"taken_percent": max([shares.percent(taken[attribute] + added[attribute], _lent(site, attribute)) |
			some attribute in resources
		]),
		"fair_percent": floor(100 / count(sharers)) + tolerance,
		"environments": count(sharers),
	}
	ok := _fair(report, contended, [added[attribute] | some attribute in resources])
}

resources := ["cpu_percent", "memory_mib", "disk_gib"]

_lent(site, attribute) := sum([host.lend[attribute] | some host in site.hosts])

# by all environments, by machines that are not ours, and by running operations
_taken(site, attribute) := sum([(host.used[attribute] + host.reserved[attribute]) | some host in site.hosts])

default _fair(_, _, _) := false

_fair(report, _, _) if report.share_percent <= report.fair_percent

_fair(report, contended, _) if report.taken_percent <= contended

# nothing is added here, and no audit asks
_fair(_, _, added) if {
	not facts.standing
	max(added) == 0
}

_fair(_, _, _) if facts.relinquishing

_message(true, _, report) := $"a share of {report.share_percent} % is fair"

_message(false, site, report) := $"{share} of {site} is more than {fair} for each of {report.environments} environments" if {
	share := $"{report.share_percent} %"
	fair := $"{report.fair_percent} %"
}

_nearest(true, _, _, _) := {}

# an equal part, or as much as leaves the site uncontended: whichever is more
_nearest(false, site, added, bounds) := nearest.first(array.concat(most, fixes)) if {
	fixes := [fix | some bound in bounds; fix := _within(site, added, bound); count(fix) > 0]
	most := [fix |
		some fix in fixes
		every other in fixes {
			_is_more(fix, other)
		}
	]
}

# sizes with which no resource is above so many percent of what the site lends
_within(site, added, bound) := object.get(nearest.fix(above, found), "fix", {}) if {
	limits := {attribute: floor((bound.percent * _lent(site, attribute)) / 100) | some attribute in resources}
	above := {attribute | some attribute in resources; bound.held[attribute] + added[attribute] > limits[attribute]}
	room := {attribute: (limits[attribute] - bound.held[attribute]) | some attribute in resources}
	found := {attribute: value |
		some attribute in above
		total := shares.together(site.id, input.environment.machines, room)[attribute]
		value := nearest.size(shares.asking(site.id, input.environment.machines, attribute), attribute, total)
	}
}

# what one does not name may be as it was asked for
_is_more(fix, other) if every attribute, value in fix {
	value >= object.get(other, attribute, value + 1)
}
