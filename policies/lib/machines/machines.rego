# METADATA
# title: Machines
# description: What a request would change of the machines of its environment; every helper takes what it reads
package drover.lib.machines

# the sizes that adapt in place
attributes := ["cpu_percent", "memory_mib", "vcpus"]

units := {"cpu_percent": " %", "memory_mib": " MiB", "vcpus": " vCPU"}

# a size as people read it
size(attribute, value) := $"{value}{units[attribute]}"

# every number that a rule may compare or sum is one; a comprehension would drop a machine that lacks it
whole(machines) if {
	is_array(machines)
	every machine in machines {
		is_string(machine.name)
		is_string(machine.site)
		is_string(machine.proposed.site)
		is_string(machine.host)
		is_string(machine.proposed.host)
		is_number(machine.disk_gib)
		is_number(machine.held.cpu_percent)
		is_number(machine.held.memory_mib)
		_somewhere(machine.site, machine.host)
		is_string(machine.class)
		machine.class != ""
		machine.envelope.mode in {"auto", "approve", "advise", "pinned"}
		every attribute in attributes {
			is_number(machine[attribute])
			is_number(machine.proposed[attribute])
			is_number(machine.baseline[attribute])
			is_number(machine.hour_low[attribute])
			is_number(machine.envelope[attribute].min)
			is_number(machine.envelope[attribute].max)
		}
	}
}

# where it is has a site and a host, or neither
_somewhere("", "")

_somewhere(site, host) if {
	site != ""
	host != ""
}

grows(machine, attribute) if machine.proposed[attribute] > machine[attribute]

relocates(machine) if machine.proposed.site != machine.site

relocates(machine) if machine.proposed.host != machine.host

changes(machine) if relocates(machine)

changes(machine) if {
	some attribute in attributes
	machine.proposed[attribute] != machine[attribute]
}

# it takes more of something, or room somewhere else; what would be gone takes nothing
takes(machine) if {
	relocates(machine)
	not gone(machine)
}

takes(machine) if {
	some attribute in attributes
	grows(machine, attribute)
}

# destroyed, or taken out of its group
gone(machine) if {
	machine.proposed.host == ""
	machine.proposed.vcpus == 0
}
