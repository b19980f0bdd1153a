# A small ring at north and south to start tests from; not part of any bundle.
package drover.lib.example_test

no_hold := {"active": false, "by": "", "reason": "", "since_ms": 0, "until_ms": 0}

not_moving := {"machines": 0, "cpu_percent": 0, "memory_mib": 0, "disk_gib": 0}

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
	"held": {"cpu_percent": 20, "memory_mib": 256},
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
		"counts": {"machines": 2, "links": 1},
		"groups": [{"name": "rank", "machines": ["rank-0", "rank-1"]}],
		"recent": {"total": 0, "requests": []},
		"moves": {"total": 0, "rows": []},
		"moving": not_moving,
		"hold": no_hold,
	},
	"owner": {
		"name": "alice",
		"others": {
			"environments": 1,
			"machines": 2,
			"vcpus": 2,
			"cpu_percent": 80,
			"memory_mib": 1024,
			"disk_gib": 8,
			"rate_mbps": 100,
		},
		"moving": not_moving,
		"moved_bytes": 1000000000,
	},
	"sites": [
		{
			"id": "north",
			"owner": "ned",
			"hold": no_hold,
			"view": "whole",
			"hosts": [host("north-1"), host("north-2")],
			"shares": {"total": 2, "rows": [
				{
					"environment": "ring",
					"owner": "alice",
					"machines": 2,
					"cpu_percent": 40,
					"memory_mib": 512,
					"disk_gib": 4,
				},
				{
					"environment": "lab",
					"owner": "bob",
					"machines": 1,
					"cpu_percent": 60,
					"memory_mib": 1024,
					"disk_gib": 10,
				},
			]},
		},
		{
			"id": "south",
			"owner": "sue",
			"hold": no_hold,
			"view": "whole",
			"hosts": [host("south-1")],
			"shares": {"total": 0, "rows": []},
		},
	],
	"hold": no_hold,
	"exemptions": [],
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

# the example as the audit sees it: nothing is asked for, `proposed` is what is
audited(name, change) := object.union(with_machine(name, object.union(change, {"proposed": change})), {
	"point": "audit",
	"request": {"kind": "audit", "machines": []},
	"subject": {"type": "shepherd", "name": "audit"},
})

# one move of the last day
moved(machine, at_ms, cause) := {
	"operation": $"o-{machine}-{at_ms}",
	"at_ms": at_ms,
	"machine": machine,
	"cause": cause,
	"from_site": "south",
	"to_site": "north",
	"bytes": 1000,
	"downtime_ms": 300,
	"outcome": "done",
}

# the example with these moves behind it
after_moves(request_, rows) := object.union(request_, {"environment": {"moves": {"total": count(rows), "rows": rows}}})

# the example with these requests of the last hour behind it
after_requests(request_, rows) := object.union(request_, {"environment": {"recent": {"total": count(rows), "requests": rows}}})
