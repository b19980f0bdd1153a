# METADATA
# title: Freeze
# description: >-
#   While a hold is active (`drover hold`: on everything, on the environment, on a site that the request touches), or
#   within a window named here, only giving back passes.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "a hold without an end ends when somebody lifts it"
#   params:
#     type: object
#     additionalProperties: false
#     required: [windows]
#     properties:
#       windows:
#         type: array
#         items:
#           type: object
#           additionalProperties: false
#           required: [from_ms, until_ms, reason]
#           properties:
#             from_ms: {type: integer, minimum: 0}
#             until_ms: {type: integer, minimum: 0}
#             reason: {type: string, minLength: 1}
#   example:
#     level: deny
#     match: {kinds: [resize, rate, move, scale]}
#     params: {windows: [{from_ms: 1798761600000, until_ms: 1798848000000, reason: "new year"}]}
package drover.rules.freeze

import data.drover.lib.facts
import data.drover.lib.nearest
import data.drover.lib.pointers

about := rego.metadata.chain()[1].annotations

checks[id] := object.union_n([
	{"ok": ok, "msg": _message(ok, reasons), "params": {"reasons": reasons}},
	_waiting(ok, windows),
	pointers.first({path | not ok; some path in (_holds | {"/now_ms" | count(current) > 0})}),
]) if {
	some id, constraint in data.drover.constraints.freeze
	windows := constraint.params.windows
	is_array(windows)
	every window in windows {
		is_number(window.from_ms)
		is_number(window.until_ms)
		is_string(window.reason)
	}
	is_number(input.now_ms)
	is_boolean(input.hold.active)
	is_boolean(input.environment.hold.active)
	every site in input.sites {
		is_boolean(site.hold.active)
	}
	facts.whole
	count(_unknown) == 0
	current := {window |
		some window in windows
		window.from_ms <= input.now_ms
		input.now_ms < window.until_ms
	}
	reasons := {window.reason | some window in current} | {_held(hold) | some hold in active}
	ok := _passes(count(current) + count(active))
}

_holds contains "/hold" if input.hold.active

_holds contains "/environment/hold" if input.environment.hold.active

_holds contains pointers.site(input.sites, site.id, "hold") if {
	some site in input.sites
	site.id in touched
	site.hold.active
}

active contains hold if {
	some hold in {input.hold, input.environment.hold}
	hold.active
}

active contains site.hold if {
	some site in input.sites
	site.id in touched
	site.hold.active
}

# sites where something would change
touched contains site if {
	some machine in facts.changed
	some site in {machine.site, machine.proposed.site}
}

touched contains machine.site if {
	some link in input.environment.links
	link.proposed_mbps != link.rate_mbps
	some machine in input.environment.machines
	machine.name in link.machines
}

# a site where something runs, but of which no hold is told
_unknown := (({machine.site | some machine in input.environment.machines} & touched) - {site.id |
	some site in input.sites
}) - {""}

default _passes(_) := false

_passes(0) := true

_passes(_) if facts.relinquishing

# an audit changes nothing
_passes(_) if facts.standing

_held(hold) := $"held by {hold.by}: {hold.reason}"

_message(true, reasons) := "no freeze" if count(reasons) == 0

_message(true, reasons) := "frozen, but this only gives back" if count(reasons) > 0

_message(false, reasons) := $"frozen: {text}" if text := concat("; ", sort(reasons))

_waiting(true, _) := {}

# 0 = until it is lifted: nobody knows how long to wait
_waiting(false, windows) := nearest.wait({wait | some end in ends; wait := end - input.now_ms}) if {
	held := {hold.until_ms | some hold in active}
	ends := {end |
		not 0 in held
		some end in (held | {window.until_ms | some window in windows})
		end > input.now_ms
		every other in held {
			other <= end
		}
		every window in windows {
			_over(window, end)
		}
	}
}

_over(window, at_ms) if window.until_ms <= at_ms

_over(window, at_ms) if window.from_ms > at_ms
