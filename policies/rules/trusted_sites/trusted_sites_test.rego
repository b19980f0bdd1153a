package drover.rules.trusted_sites_test

import data.drover.lib.example_test as example
import data.drover.rules.trusted_sites

params := {"class": "batch", "sites": ["north"]}

check(request, given) := value if {
	value := trusted_sites.checks.i with input as request
		with data.drover.constraints as example.instance("trusted_sites", given)
}

with_params(change) := object.union(params, change)

test_stays if {
	value := check(example.request, params)
	value.ok
	value.limits.avoid == {{"machine": "rank-0", "site": "south"}}
}

test_goes if {
	value := check(example.moving("south", "south-1"), params)
	not value.ok
	value.msg == "south is not trusted with class batch (rank-0)"
	value.path == "/environment/machines/0/proposed/site"
}

test_another_class if check(example.moving("south", "south-1"), with_params({"class": "public"})).ok

test_an_audit_tells_of_strays if {
	stray := {"site": "south", "host": "south-1"}
	not check(example.audited("rank-0", stray), params).ok
	check(object.union(example.audited("rank-0", stray), {"point": "request"}), params).ok
}

test_no_site_trusted if count(check(example.request, with_params({"sites": []})).limits.avoid) == 1

test_broken_parameters_give_no_value[what] if {
	some what, change in {"class": {"class": null}, "sites": {"sites": "north"}}
	not check(example.request, with_params(change))
}

test_a_lost_class_gives_no_value if not check(example.with_machine("rank-1", {"class": null}), params)
