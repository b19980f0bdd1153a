# METADATA
# title: Pointers
# description: >-
#   Where in the input a number stands that failed, as a JSON pointer (RFC 6901; names of the contract need no escapes);
#   every helper takes what it reads.
package drover.lib.pointers

# to what would become of an attribute of one machine
proposed(machines, name, attribute) := machine(machines, name, $"proposed/{attribute}")

# to a field of one machine, however deep
machine(machines, name, field) := $"/environment/machines/{index}/{field}" if {
	some index, candidate in machines
	candidate.name == name
}

# to a field of one site
site(sites, id, field) := $"/sites/{index}/{field}" if {
	some index, candidate in sites
	candidate.id == id
}

# to a field of one host
host(sites, id, field) := $"/sites/{index}/hosts/{place}/{field}" if {
	some index, candidate in sites
	some place, one in candidate.hosts
	one.id == id
}

# to what makes up a total of the environment: what grows, or all of it when nothing does
total(environment, attribute) := min(found) if {
	attribute in {"vcpus", "cpu_percent", "memory_mib"}
	growing := {index |
		some index, candidate in environment.machines
		candidate.proposed[attribute] > candidate[attribute]
	}
	all := {index | some index, _ in environment.machines; count(growing) == 0}
	found := {$"/environment/machines/{index}/proposed/{attribute}" | some index in (growing | all)}
}

total(environment, "rate_mbps") := min(found) if {
	growing := {index | some index, link in environment.links; link.proposed_mbps > link.rate_mbps}
	all := {index | some index, _ in environment.links; count(growing) == 0}
	found := {$"/environment/links/{index}/proposed_mbps" | some index in (growing | all)}
}

total(environment, "disk_gib") := min(found) if {
	growing := {index |
		some index, candidate in environment.machines
		candidate.vcpus == 0
		candidate.proposed.vcpus > 0
	}
	all := {index | some index, _ in environment.machines; count(growing) == 0}
	found := {$"/environment/machines/{index}/disk_gib" | some index in (growing | all)}
}

total(_, attribute) := "/environment/counts/machines" if attribute in {"machines", "environments"}

# the part of a check that says where: the first of them, or nothing
first(pointers) := {"path": min(pointers)} if count(pointers) > 0

first(pointers) := {} if count(pointers) == 0
