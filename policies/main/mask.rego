# METADATA
# title: What decision logs leave out
# description: >-
#   Pointers into a decision's event, as OPA's `system/log/mask` has it. The asker's own words are left out by default:
#   they are untrusted and may hold anything. `data.drover.mask` adds pointers.
package system.log

# METADATA
# title: Pointers that are removed
# entrypoint: true
mask contains "/input/request/reason" if is_string(object.get(input, ["input", "request", "reason"], null))

mask contains pointer if {
	some pointer in data.drover.mask
	is_string(pointer)
}
