package drover.rules.freeze_test

import data.drover.lib.example_test as example
import data.drover.rules.freeze

check(request, windows) := value if {
	value := freeze.checks.i with input as request
		with data.drover.constraints as example.instance("freeze", {"windows": windows})
}

growing := example.proposing("rank-0", {"memory_mib": 512})

hold(until_ms) := {"active": true, "by": "olga", "reason": "power", "since_ms": 1, "until_ms": until_ms}

held_site(request, id) := object.union(request, {"sites": [held(site, id) | some site in request.sites]})

held(site, id) := object.union(site, {"hold": hold(0)}) if site.id == id

held(site, id) := site if site.id != id

test_no_hold if check(growing, []).ok

test_hold_on_everything if {
	value := check(object.union(growing, {"hold": hold(1060000)}), [])
	not value.ok
	value.msg == "frozen: held by olga: power"
	value.fix == {"retry_after_ms": 60000}
}

test_hold_until_lifted_has_no_fix if {
	value := check(object.union(growing, {"hold": hold(0)}), [])
	not value.ok
	not value.fix
}

test_hold_on_the_environment if not check(object.union(growing, {"environment": {"hold": hold(0)}}), []).ok

test_hold_on_a_site_that_is_touched if {
	not check(held_site(growing, "north"), []).ok
	not check(held_site(example.rate(300), "north"), []).ok
	not check(held_site(example.moving("south", "south-1"), "south"), []).ok
	check(held_site(growing, "south"), []).ok
}

test_window if {
	window := {"from_ms": 900000, "until_ms": 1100000, "reason": "new year"}
	value := check(growing, [window])
	not value.ok
	value.msg == "frozen: new year"
	value.fix == {"retry_after_ms": 100000}
	check(growing, [object.union(window, {"until_ms": 1000000})]).ok
	check(growing, [object.union(window, {"from_ms": 1000001})]).ok
}

test_giving_back_passes if {
	value := check(object.union(example.proposing("rank-0", {"memory_mib": 200}), {"hold": hold(0)}), [])
	value.ok
	value.msg == "frozen, but this only gives back"
}

test_a_lost_hold_gives_no_value if {
	not check(object.union(growing, {"hold": {"active": "no"}}), [])
	not check(object.union(growing, {"hold": null}), [])
}

test_a_bad_window_gives_no_value if not check(growing, [{"from_ms": 0, "until_ms": "2000000", "reason": "x"}])

test_a_lost_site_gives_no_value if {
	not check(object.union(growing, {"sites": [growing.sites[1]]}), [])
}

test_an_audit_changes_nothing if {
	held := object.union(example.audited("rank-0", {}), {"hold": {
		"active": true,
		"by": "olga",
		"reason": "power",
		"since_ms": 1,
		"until_ms": 0,
	}})
	value := freeze.checks.i with input as held
		with data.drover.constraints as example.instance("freeze", {"windows": []})
	value.ok
}
