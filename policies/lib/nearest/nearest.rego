# METADATA
# title: Nearest
# description: >-
#   The `fix` of a check: the nearest values that would pass it. Every helper takes what it reads, and has no value where
#   none can be computed.
package drover.lib.nearest

# the size that each of these machines could have when together they may have `total`: none when they ask for different
# ones, or when even what they have is too much
size(asking, attribute, total) := value if {
	count({machine.proposed[attribute] | some machine in asking}) == 1
	value := floor(total / count(asking))
	value > 0
	every machine in asking {
		value >= machine[attribute]
	}
}

# the rate that each of these links could have
rate(asking, total) := value if {
	count({link.proposed_mbps | some link in asking}) == 1
	value := floor(total / count(asking))
	value > 0
	every link in asking {
		value >= link.rate_mbps
	}
}

# those of them that grow
growing(machines, attribute) := [machine |
	some machine in machines
	machine.proposed[attribute] > machine[attribute]
]

growing_links(links) := [link | some link in links; link.proposed_mbps > link.rate_mbps]

# of machines that a rule does not want where they would come to: the site where all of them are, which no rule of
# arrivals forbids, or else the first that is allowed
site(asking, _) := here if {
	here := _here(asking)
}

site(asking, allowed) := min(allowed) if {
	not _here(asking)
	count(asking) > 0
	count(allowed) > 0
}

_here(asking) := here if {
	sites := {machine.site | some machine in asking}
	count(sites) == 1
	some here in sites
	here != ""
}

# the part of a check: all of what fails has a value, or there is none; half a fix would not pass
fix(failed, found) := {"fix": found} if {
	count(failed) > 0
	count(failed) == count(found)
}

fix(failed, found) := {} if count(failed) != count(found)

fix(failed, _) := {} if count(failed) == 0

# the shortest of these waits; WASM has no value for a union of nothing, so that what may be empty is asked for here
wait(waits) := {"fix": {"retry_after_ms": min(waits)}} if count(waits) > 0

wait(waits) := {} if count(waits) == 0

# the first of these fixes
first(fixes) := {"fix": fixes[0]} if count(fixes) > 0

first(fixes) := {} if count(fixes) == 0
