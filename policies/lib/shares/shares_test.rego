package drover.lib.shares_test

import data.drover.lib.example_test as example
import data.drover.lib.shares

north := example.request.sites[0]

totals(per) := shares.totals(north, per, example.request.environment)

test_totals if {
	totals("environment") == {"machines": 2, "cpu_percent": 40, "memory_mib": 512, "disk_gib": 4}
	totals("owner") == totals("environment")
	totals("all") == {"machines": 3, "cpu_percent": 100, "memory_mib": 1536, "disk_gib": 14}
}

test_readable if {
	shares.readable(north, "all")
	shares.readable(object.union(north, {"view": "own"}), "owner")
	not shares.readable(object.union(north, {"view": "own"}), "all")
	not shares.readable(object.union(north, {"view": "none"}), "environment")
	not shares.readable(object.union(north, {"shares": {"total": 1}}), "environment")
	not shares.readable(object.union(north, {"shares": {"total": 1, "rows": [{"environment": "ring"}]}}), "all")
}

test_added if {
	moved := example.moving("south", "south-1").environment.machines
	shares.added("south", moved) == {"machines": 1, "cpu_percent": 20, "memory_mib": 256, "disk_gib": 2}
	shares.added("north", moved) == {"machines": 0, "cpu_percent": 0, "memory_mib": 0, "disk_gib": 0}
	grown := example.proposing_all({"cpu_percent": 30, "memory_mib": 192}).environment.machines
	shares.added("north", grown) == {"machines": 0, "cpu_percent": 20, "memory_mib": 0, "disk_gib": 0}
}

test_percent if {
	shares.percent(1, 3) == 34
	shares.percent(0, 0) == 0
	shares.percent(1, 0) == 101
}
