package drover.lib.facts_test

import data.drover.lib.example_test as example
import data.drover.lib.facts

test_an_example_is_whole_and_takes_nothing_back if {
	facts.whole with input as example.request
	not facts.relinquishing with input as example.request
}

test_a_shrink_gives_back if facts.relinquishing with input as example.proposing("rank-0", {"memory_mib": 192})

test_growths_are_named if {
	request := example.proposing("rank-1", {"cpu_percent": 40, "memory_mib": 192})
	growths := facts.growths with input as request
	{[growth.machine.name, growth.attribute] | some growth in growths} == {["rank-1", "cpu_percent"]}
	changed := facts.changed with input as request
	{machine.name | some machine in changed} == {"rank-1"}
}
