# METADATA
# title: Maintenance window
# description: >-
#   Machines are moved only within these hours of the week, at all sites or at those named. What is resized in
#   place, placed for the first time or destroyed is not held back. A window that passes midnight is written as
#   two.
# custom:
#   disclose: owner
#   level: deny
#   no_fix: "a window that ends before it begins never opens"
#   params:
#     type: object
#     additionalProperties: false
#     required: [utc_offset_minutes, windows]
#     properties:
#       utc_offset_minutes: {type: integer, minimum: -840, maximum: 840, description: "of the clock that the windows mean"}
#       sites: {type: array, minItems: 1, items: {type: string, minLength: 1}, description: "absent: all"}
#       windows:
#         type: array
#         minItems: 1
#         items:
#           type: object
#           additionalProperties: false
#           required: [days, from_minute, until_minute]
#           properties:
#             days: {type: array, minItems: 1, items: {enum: [mon, tue, wed, thu, fri, sat, sun]}}
#             from_minute: {type: integer, minimum: 0, maximum: 1439, description: "of the day"}
#             until_minute: {type: integer, minimum: 1, maximum: 1440}
#   example:
#     level: deny
#     params:
#       utc_offset_minutes: 60
#       sites: [south]
#       windows: [{days: [mon, tue, wed, thu, fri], from_minute: 1200, until_minute: 1440}]
package drover.rules.maintenance_window

import data.drover.lib.facts

about := rego.metadata.chain()[1].annotations

checks[id] := object.union(
	{"ok": ok, "msg": _message(ok, moved), "params": {"machines": moved, "minute_of_week": minute}},
	_waiting(ok, openings),
) if {
	some id, constraint in data.drover.constraints.maintenance_window
	offset := constraint.params.utc_offset_minutes
	is_number(offset)
	is_number(input.now_ms)
	windows := constraint.params.windows
	is_array(windows)
	every window in windows {
		is_array(window.days)
		is_number(window.from_minute)
		is_number(window.until_minute)
	}
	_sites_sound(constraint.params)
	facts.whole
	minute := _minute_of_week(input.now_ms + (offset * 60000))
	moved := {machine.name | some machine in facts.moving; _concerns(constraint.params, machine)}
	open := {window |
		some window in windows
		some day in window.days
		start := _days[day] * 1440
		minute >= start + window.from_minute
		minute < start + window.until_minute
	}
	openings := {waiting |
		some window in windows
		some day in window.days
		start := (_days[day] * 1440) + window.from_minute
		window.until_minute > window.from_minute
		waiting := ((start - minute) + 10080) % 10080
	}
	ok := _allowed(count(moved), count(open))
}

_days := {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}

# the epoch began on a Thursday, which is day 3 of a week that begins on Monday
_minute_of_week(local_ms) := (floor(local_ms / 60000) + (3 * 1440)) % 10080

_sites_sound(params) if not "sites" in object.keys(params)

_sites_sound(params) if {
	is_array(params.sites)
	count(params.sites) > 0
}

_concerns(params, _) if not "sites" in object.keys(params)

_concerns(params, machine) if machine.site in params.sites

_concerns(params, machine) if machine.proposed.site in params.sites

default _allowed(_, _) := false

_allowed(0, _) := true

_allowed(moved, open) if {
	moved > 0
	open > 0
}

_message(true, _) := "nothing is moved outside its window"

_message(false, moved) := $"{names} would be moved outside the maintenance window" if names := concat(", ", sort(moved))

_waiting(true, _) := {}

# until the minute begins in which the next window opens
_waiting(false, openings) := {
	"fix": {"retry_after_ms": (min(openings) * 60000) - (input.now_ms % 60000)},
	"path": "/now_ms",
} if {
	count(openings) > 0
}

# windows that end before they begin never open
_waiting(false, openings) := {"path": "/now_ms"} if count(openings) == 0
