# METADATA
# title: Facts of this request
# description: >-
#   What every instance of every rule needs to know of the input. Rules without arguments, unlike the other libraries:
#   they are evaluated once a decision, functions once a call. Each has a value even when it does not hold, because
#   WASM remembers no undefined rule: that was most of a decision's time.
package drover.lib.facts

import data.drover.lib.machines
import data.drover.lib.requests

# the machines' numbers are numbers
default whole := false

whole if machines.whole(input.environment.machines)

# the links' rates are numbers
default links_whole := false

links_whole if every link in input.environment.links {
	is_number(link.rate_mbps)
	is_number(link.baseline_mbps)
	is_number(link.proposed_mbps)
}

# the last hour's requests are all there, and say what rules ask of them
default recent_whole := false

recent_whole if {
	is_number(input.now_ms)
	count(input.environment.recent.requests) == input.environment.recent.total
	every row in input.environment.recent.requests {
		is_number(row.at_ms)
		is_string(row.subject)
		row.subject != ""
		row.effect in {"allow", "approve", "deny"}
		row.kind in requests.kinds
		is_array(row.machines)
		every name in row.machines {
			is_string(name)
			name != ""
		}
	}
}

# the last day's moves are all there
default moves_whole := false

moves_whole if {
	is_number(input.now_ms)
	count(input.environment.moves.rows) == input.environment.moves.total
	every row in input.environment.moves.rows {
		is_number(row.at_ms)
		is_number(row.bytes)
		is_string(row.machine)
		row.machine != ""
		row.cause in requests.askers
		row.outcome in {"running", "done", "failed"}
	}
}

# this request takes nothing
default relinquishing := false

relinquishing if input.request.kind in requests.relinquishing_kinds

relinquishing if {
	whole
	requests.relinquishes(input.request, input.environment)
}

# what would have more of something in place
growths contains {"machine": machine, "attribute": attribute} if {
	some machine in input.environment.machines
	some attribute in machines.attributes
	machines.grows(machine, attribute)
}

# machines that the request would change at all
changed contains machine if {
	some machine in input.environment.machines
	machines.changes(machine)
}

# the standing state is judged, not a change
default standing := false

standing if input.point == "audit"

# where machines would come to be that are not there now; in an audit, where they are
arrivals contains {"machine": machine, "site": machine.proposed.site} if {
	some machine in input.environment.machines
	machine.proposed.site != ""
	_comes(machine, "site")
}

host_arrivals contains {"machine": machine, "host": machine.proposed.host} if {
	some machine in input.environment.machines
	machine.proposed.host != ""
	_comes(machine, "host")
}

_comes(machine, place) if machine.proposed[place] != machine[place]

_comes(_, _) if standing

# machines that leave a host where they run for another one: what stops them for a moment and holds room twice
moving contains machine if {
	some machine in input.environment.machines
	machine.host != ""
	machines.relocates(machine)
	not machines.gone(machine)
}

# of the machines asked for: those that the planner may have to place
asked contains machine if {
	some machine in input.environment.machines
	machine.name in input.request.machines
}

# what all machines and links of the environment hold now, and would hold: running operations count with what they reserve
before := {
	"machines": count([machine | some machine in input.environment.machines; machine.vcpus > 0]),
	"vcpus": sum([machine.vcpus | some machine in input.environment.machines]),
	"cpu_percent": sum([_held(machine, "cpu_percent") | some machine in input.environment.machines]),
	"memory_mib": sum([_held(machine, "memory_mib") | some machine in input.environment.machines]),
	"disk_gib": sum([machine.disk_gib | some machine in input.environment.machines; machine.vcpus > 0]),
	"rate_mbps": sum([link.rate_mbps | some link in input.environment.links]),
}

after := {
	"machines": count([machine | some machine in input.environment.machines; machine.proposed.vcpus > 0]),
	"vcpus": sum([machine.proposed.vcpus | some machine in input.environment.machines]),
	"cpu_percent": sum([_held_after(machine, "cpu_percent") | some machine in input.environment.machines]),
	"memory_mib": sum([_held_after(machine, "memory_mib") | some machine in input.environment.machines]),
	"disk_gib": sum([machine.disk_gib | some machine in input.environment.machines; machine.proposed.vcpus > 0]),
	"rate_mbps": sum([link.proposed_mbps | some link in input.environment.links]),
}

_held(machine, attribute) := max([machine[attribute], machine.held[attribute]])

_held_after(machine, attribute) := machine.proposed[attribute] if machine.proposed[attribute] != machine[attribute]

_held_after(machine, attribute) := _held(machine, attribute) if machine.proposed[attribute] == machine[attribute]
