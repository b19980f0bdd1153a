# METADATA
# title: Shares
# description: What environments take at a site, and what a request adds there; every helper takes what it reads
package drover.lib.shares

attributes := ["machines", "cpu_percent", "memory_mib", "disk_gib"]

# whether this bundle is shown enough of the site to judge
readable(site, per) if {
	per in {"whole": {"environment", "owner", "all"}, "own": {"environment", "owner"}}[site.view]
	count(site.shares.rows) == site.shares.total
	every share in site.shares.rows {
		is_string(share.environment)
		share.environment != ""
		is_string(share.owner)
		share.owner != ""
		every attribute in attributes {
			is_number(share[attribute])
		}
	}
}

# taken now by the environment, by its owner, or by all
totals(site, per, environment) := {attribute: total |
	some attribute in attributes
	total := sum([share[attribute] | some share in site.shares.rows; _counts(per, share, environment)])
}

_counts("environment", share, environment) if {
	share.environment == environment.name
	share.owner == environment.owner
}

_counts("owner", share, environment) if share.owner == environment.owner

_counts("all", _, _)

# what a request adds at a site while it is carried out: what leaves or shrinks frees nothing yet
added(site, machines) := {
	"machines": count([machine | some machine in machines; _arrives(site, machine)]),
	"cpu_percent": sum([_more(site, machine, "cpu_percent") | some machine in machines]),
	"memory_mib": sum([_more(site, machine, "memory_mib") | some machine in machines]),
	"disk_gib": sum([machine.disk_gib | some machine in machines; _arrives(site, machine)]),
}

_arrives(site, machine) if {
	machine.proposed.site == site
	machine.site != site
}

default _more(_, _, _) := 0

_more(site, machine, attribute) := machine.proposed[attribute] if _arrives(site, machine)

_more(site, machine, attribute) := max([0, machine.proposed[attribute] - machine[attribute]]) if {
	machine.proposed.site == site
	machine.site == site
}

# who makes up what is added of an attribute there
asking(site, machines, attribute) := [machine |
	some machine in machines
	_more(site, machine, attribute) > 0
]

# what they may have together, when `room` is left there: what they have there is counted already
together(site, machines, room) := {attribute: total |
	some attribute in ["cpu_percent", "memory_mib"]
	total := room[attribute] + sum([machine[attribute] |
		some machine in asking(site, machines, attribute)
		machine.site == site
	])
}

# parts of a hundred, rounded up; all of what is not lent is more than all
percent(amount, lent) := ceil((100 * amount) / lent) if lent > 0

percent(0, 0) := 0

percent(amount, 0) := 101 if amount > 0
