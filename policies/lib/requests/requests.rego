# METADATA
# title: Requests
# description: Kinds of requests, and which of them only give back
package drover.lib.requests

import data.drover.lib.machines

kinds := (relinquishing_kinds | adapting_kinds) | {"create", "update", "audit"}

askers := {"guest", "operator", "automation", "stack", "shepherd"}

# never judged by growth, quota or rate: giving back is always allowed
relinquishing_kinds := {"release", "destroy", "repair"}

# what departs from the baseline while the environment lives; the stack's own changes are create, update, destroy
adapting_kinds := {"resize", "rate", "move", "scale", "topology"}

relinquishes(request, _) if request.kind in relinquishing_kinds

# any request that takes nothing: smaller sizes or rates, same places; whoever asks has seen that machines are whole
relinquishes(request, environment) if {
	request.kind in adapting_kinds
	every machine in environment.machines {
		not machines.takes(machine)
	}
	every link in environment.links {
		link.proposed_mbps <= link.rate_mbps
	}
	some thing in array.concat(environment.machines, environment.links)
	lowers(thing)
}

lowers(machine) if machines.changes(machine)

lowers(link) if link.proposed_mbps < link.rate_mbps
