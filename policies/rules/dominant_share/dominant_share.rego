# METADATA
# title: Dominant share
# description: >-
#   Fairness at a site. An environment's dominant share is the largest part that it takes of anything lent there: CPU,
#   memory or disk. While the site is contended, no environment may add to a dominant share above an equal part of
#   what is lent, plus a tolerance. What it has already is not taken away.
# custom:
#   disclose: operator
#   level: deny
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
import data.drover.lib.pointers
import data.drover.lib.shares

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{
		"ok": ok,
		"msg": _message(ok, site.id, report),
		"params": report,
	},
	pointers.first({pointers.site(input.sites, site.id, "shares") | not ok}),
) if {
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
	sharers := {share.environment | some share in site.shares.rows} | {input.environment.name}
	report := {
		"share_percent": max([shares.percent(now[attribute] + added[attribute], _lent(site, attribute)) |
			some attribute in resources
		]),
		"taken_percent": max([shares.percent(_taken(site, attribute) + added[attribute], _lent(site, attribute)) |
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
