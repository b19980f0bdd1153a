# METADATA
# title: Host headroom
# description: >-
#   Every host that a plan loads has room for it: in what its owner lends (or a share of that), and in what the host
#   itself says is free. Foreign machines and reservations count as taken; a moving machine counts whole at its
#   destination while the source still holds it. Judges plans: before planning no host is known.
# custom:
#   disclose: operator
#   level: deny
#   no_fix: "a disk and a machine that is only moved cannot be made smaller, and another host is the planner's to find"
#   params:
#     type: object
#     additionalProperties: false
#     required: [cpu_share_percent, memory_share_percent, disk_share_percent]
#     properties:
#       site: {type: string, minLength: 1, description: "judge only this site's hosts; absent: all"}
#       cpu_share_percent: {type: integer, minimum: 0, maximum: 100, description: "of what is lent"}
#       memory_share_percent: {type: integer, minimum: 0, maximum: 100}
#       disk_share_percent: {type: integer, minimum: 0, maximum: 100}
#   example:
#     level: deny
#     match: {points: [plan]}
#     params: {cpu_share_percent: 100, memory_share_percent: 90, disk_share_percent: 80}
package drover.rules.host_headroom

import data.drover.lib.facts
import data.drover.lib.machines
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{
		"ok": count(short) == 0,
		"msg": concat("; ", sort(_messages(short))),
		"params": {"short": short},
	},
	nearest.fix({shortage.attribute | some shortage in short}, {attribute: min(values) |
		some attribute in machines.attributes
		scarce := {shortage | some shortage in short; shortage.attribute == attribute}
		values := [_nearest(shortage) | some shortage in scarce]
		count(scarce) > 0
		count(values) == count(scarce)
	}),
	pointers.first({pointers.host(input.sites, shortage.host, _scarce(shortage)) | some shortage in short}),
]) if {
	some id, constraint in data.drover.constraints.host_headroom
	shares := {
		"cpu_percent": constraint.params.cpu_share_percent,
		"memory_mib": constraint.params.memory_share_percent,
		"disk_gib": constraint.params.disk_share_percent,
	}
	every share in shares {
		is_number(share)
	}
	_site_known(constraint.params)
	facts.whole
	every host in loaded {
		_host_known(constraint.params, host)
	}
	short := {shortage |
		not facts.relinquishing
		some host in loaded
		not _foreign(constraint.params, host)
		some attribute, share in shares
		shortage := _shortage(host, attribute, share)
	}
}

# an instance without a site judges all hosts
_foreign(params, host) if {
	is_string(params.site)
	not host in {own.id | some site in input.sites; site.id == params.site; some own in site.hosts}
}

# a site that nobody knows must not silently judge nothing
_site_known(params) if not "site" in object.keys(params)

_site_known(params) if {
	some site in input.sites
	site.id == params.site
}

# another site's hosts are not this owner's to judge: they need not be shown
_host_known(_, host) if hosts[host].state in {"up", "degraded"}

_host_known(params, host) if {
	some machine in input.environment.machines
	machine.proposed.host == host
	machine.proposed.site != params.site
	some site in input.sites
	site.id == params.site
	site.view == "whole"
}

hosts[host.id] := object.union(host, {"site": site.id}) if {
	some site in input.sites
	some host in site.hosts
}

# where something would be added; a machine that is to be placed but has no host yet cannot be judged
loaded contains machine.proposed.host if {
	some machine in input.environment.machines
	machines.takes(machine)
	not machines.gone(machine)
}

needs[host][attribute] := sum([_need(machine, attribute) |
	some machine in input.environment.machines
	machine.proposed.host == host
]) if {
	some host in loaded
	some attribute in ["cpu_percent", "memory_mib", "disk_gib"]
}

# in place: only what is added, so that a neighbour's giving back in the same request frees nothing before it happened
_need(machine, attribute) := max([0, machine.proposed[attribute] - machine[attribute]]) if {
	attribute != "disk_gib"
	machine.host == machine.proposed.host
}

_need(machine, attribute) := machine.proposed[attribute] if {
	attribute != "disk_gib"
	machine.host != machine.proposed.host
}

_need(machine, "disk_gib") := machine.disk_gib if machine.host != machine.proposed.host

_need(machine, "disk_gib") := 0 if machine.host == machine.proposed.host

default _room(_, _, _) := 0

_room(host, attribute, share) := max([0, min(_rooms(host, attribute, share))]) if host.state == "up"

_rooms(host, "cpu_percent", share) := {_lent(host, "cpu_percent", share)}

_rooms(host, attribute, share) := {
	_lent(host, attribute, share),
	host.free[attribute] - host.reserved[attribute],
} if {
	attribute in {"memory_mib", "disk_gib"}
}

_lent(host, attribute, share) := (floor((host.lend[attribute] * share) / 100) - host.used[attribute]) - host.reserved[attribute]

_shortage(id, attribute, share) := {
	"host": id,
	"site": hosts[id].site,
	"state": hosts[id].state,
	"attribute": attribute,
	"need": need,
	"room": room,
} if {
	need := needs[id][attribute]
	need > 0
	room := _room(hosts[id], attribute, share)
	need > room
}

# a host that does not answer takes nothing, however much it lends
_scarce(shortage) := "state" if shortage.state != "up"

_scarce(shortage) := $"lend/{shortage.attribute}" if shortage.state == "up"

_messages(short) := {"every host has room"} if count(short) == 0

_messages(short) := {message |
	some shortage in short
	message := $"{shortage.host} ({shortage.state}) has room for {shortage.room} of {shortage.attribute}, {shortage.need} needed"
} if {
	count(short) > 0
}

# the size that each machine which grows on that host could have
_nearest(shortage) := nearest.size(asking, shortage.attribute, total) if {
	shortage.attribute in machines.attributes
	asking := [machine |
		some machine in input.environment.machines
		machine.proposed.host == shortage.host
		_need(machine, shortage.attribute) > 0
	]
	total := shortage.room + sum([machine[shortage.attribute] | some machine in asking; machine.host == shortage.host])
}
