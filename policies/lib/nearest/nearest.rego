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

# how many machines a group could have that is to be scaled up, when `over` says of what there would be more than there may
# be: its new machines are alike, and some of them would not come
members(machines, over) := count(group) - max([drop | some drop in drops]) if {
	added := [machine | some machine in machines; machine.vcpus == 0; machine.proposed.vcpus > 0]
	names := {machine.group | some machine in added}
	count(names) == 1
	not "" in names
	group := [machine | some machine in machines; machine.group in names; machine.proposed.vcpus > 0]
	drops := {attribute: ceil((total.after - total.max) / takes) |
		some attribute, total in over
		takes := min({_takes(machine, attribute) | some machine in added})
		takes > 0
	}
	count(drops) == count(over)
	every drop in drops {
		drop <= count(added)
	}
}

_takes(_, "machines") := 1

_takes(machine, "disk_gib") := machine.disk_gib

_takes(machine, attribute) := machine.proposed[attribute] if attribute in {"vcpus", "cpu_percent", "memory_mib"}

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
