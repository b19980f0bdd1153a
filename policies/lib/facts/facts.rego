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

# this request takes nothing
default relinquishing := false

relinquishing if requests.relinquishes(input.request, input.environment)

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
