package drover.lib.pointers_test

import data.drover.lib.example_test as example
import data.drover.lib.pointers

test_a_field_of_a_machine if {
	machines := example.request.environment.machines
	pointers.proposed(machines, "rank-1", "site") == "/environment/machines/1/proposed/site"
}

test_the_first_or_none if {
	pointers.first({"/b", "/a"}) == {"path": "/a"}
	pointers.first(set()) == {}
}

test_sites_and_hosts if {
	pointers.site(example.request.sites, "south", "hold") == "/sites/1/hold"
	pointers.host(example.request.sites, "north-2", "state") == "/sites/0/hosts/1/state"
}

test_a_total_is_what_grows if {
	grown := example.proposing("rank-1", {"memory_mib": 512})
	pointers.total(grown.environment, "memory_mib") == "/environment/machines/1/proposed/memory_mib"
	pointers.total(example.rate(300).environment, "rate_mbps") == "/environment/links/0/proposed_mbps"
}

test_a_total_that_stands_is_the_first[attribute] if {
	some attribute, pointer in {
		"vcpus": "/environment/machines/0/proposed/vcpus",
		"disk_gib": "/environment/machines/0/disk_gib",
		"rate_mbps": "/environment/links/0/proposed_mbps",
		"machines": "/environment/counts/machines",
		"environments": "/environment/counts/machines",
	}
	pointers.total(example.request.environment, attribute) == pointer
}

test_a_new_machine_brings_its_disk if {
	born := example.with_machine("rank-1", {"vcpus": 0})
	pointers.total(born.environment, "disk_gib") == "/environment/machines/1/disk_gib"
}
