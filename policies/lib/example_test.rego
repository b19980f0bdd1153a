# A small ring at north and south to start tests from; not part of any bundle.
package drover.lib.example_test

no_hold := {"active": false, "by": "", "reason": "", "since_ms": 0, "until_ms": 0}

size := {"vcpus": 1, "cpu_percent": 20, "memory_mib": 256}

machine(name) := object.union(size, {
	"name": name,
	"class": "batch",
	"group": "rank",
	"site": "north",
	"host": "north-1",
	"disk_gib": 2,
	"baseline": object.union(size, {"site": "north"}),
	"envelope": {
		"mode": "auto",
		"vcpus": {"min": 1, "max": 2},
		"cpu_percent": {"min": 10, "max": 60},
		"memory_mib": {"min": 192, "max": 1024},
		"sites": ["north", "south"],
	},
	"hour_low": size,
	"proposed": object.union(size, {"site": "north", "host": "north-1"}),
})

host(id) := {
	"id": id,
	"state": "up",
	"lend": {"cpu_percent": 200, "memory_mib": 2048, "disk_gib": 20},
	"used": {"cpu_percent": 40, "memory_mib": 512, "disk_gib": 4},
	"reserved": {"cpu_percent": 0, "memory_mib": 0, "disk_gib": 0},
	"free": {"memory_mib": 4096, "disk_gib": 40},
}

request := {
	"contract": 1,
	"now_ms": 1000000,
	"point": "request",
	"request": {"id": "r1", "kind": "resize", "machines": ["rank-0"], "links": [], "reason": "test"},
	"subject": {"type": "guest", "name": "rank-0", "machine": "rank-0", "roles": []},
	"environment": {
		"name": "ring",
		"owner": "alice",
		"class": "batch",
		"sites": ["north", "south"],
		"machines": [machine("rank-0"), machine("rank-1")],
		"links": [{
			"name": "rank-0--rank-1",
			"machines": ["rank-0", "rank-1"],
			"rate_mbps": 200,
			"baseline_mbps": 200,
			"proposed_mbps": 200,
		}],
		"recent": {"total": 0, "requests": []},
		"hold": no_hold,
	},
	"sites": [
		{"id": "north", "owner": "ned", "hold": no_hold, "hosts": [host("north-1"), host("north-2")]},
		{"id": "south", "owner": "sue", "hold": no_hold, "hosts": [host("south-1")]},
	],
	"hold": no_hold,
}

# the example with one machine changed
with_machine(name, change) := object.union(request, {"environment": {"machines": [changed |
	some machine in request.environment.machines
	changed := changed_machine(machine, name, change)
]}})

changed_machine(machine, name, change) := object.union(machine, change) if machine.name == name

changed_machine(machine, name, _) := machine if machine.name != name

# the example with one machine proposed otherwise
proposing(name, proposed) := with_machine(name, {"proposed": proposed})

# the example with both ranks proposed otherwise: a group request
proposing_all(proposed) := object.union(request, {
	"request": {"machines": ["rank-0", "rank-1"], "group": "rank"},
	"environment": {"machines": [object.union(machine, {"proposed": proposed}) |
		some machine in request.environment.machines
	]},
})

rate(mbps) := object.union(request, {
	"request": {"kind": "rate", "machines": [], "links": ["rank-0--rank-1"]},
	"environment": {"links": [object.union(link, {"proposed_mbps": mbps}) |
		some link in request.environment.links
	]},
})

kind(value) := {"request": {"kind": value}}

# a move of rank-0 as the planner would hand it in
moving(site, host) := object.union(proposing("rank-0", {"site": site, "host": host}), {
	"point": "plan",
	"request": {"kind": "move"},
	"plan": {"digest": "d", "predicted_ms": 9000, "bytes": 1000, "downtime_ms": 300, "moves": [{
		"machine": "rank-0",
		"class": "batch",
		"from_site": "north",
		"from_host": "north-1",
		"to_site": site,
		"to_host": host,
		"predicted_ms": 9000,
		"bytes": 1000,
		"downtime_ms": 300,
	}]},
})

# one instance of a rule, with the given parameters
instance(rule, params) := {rule: {"i": {"level": "deny", "params": params}}}
