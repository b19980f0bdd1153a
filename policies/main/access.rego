# METADATA
# title: Who may do what through the API
# description: >-
#   One question before each call: may this principal do this to that object? An owner's bundle may replace what a role
#   may do (`data.drover.roles`); that the local root approves nothing, and that a stack touches only what is its own,
#   cannot be changed by data.
package drover.access

default verdict := {"allow": false, "reason": "the question does not fit the contract"}

verdict := {"allow": count(_refusals) == 0, "reason": _reason} if {
	is_string(_name)
	is_string(_role)
	is_string(_action)
	is_string(_kind)
}

_reason := "allowed" if count(_refusals) == 0

_reason := concat("; ", sort(_refusals)) if count(_refusals) > 0

# the question has a shape of its own: read by path, because the schema of `input` is that of decisions
_name := object.get(input, ["subject", "name"], null)

_role := object.get(input, ["subject", "role"], null)

_action := object.get(input, ["action"], null)

_kind := object.get(input, ["object", "kind"], null)

_owner := object.get(input, ["object", "owner"], null)

_shipped_roles := {
	"local-root": {"read", "declare", "ask", "operate"},
	"operator": {"read", "declare", "ask", "operate"},
	"security": {"read", "secure"},
	"approver": {"read", "approve"},
	"reader": {"read"},
	"stack": {"read", "declare", "ask"},
}

# roles that reach only what their own name owns
_confined := {"stack"}

default _actions := set()

_actions := {action | some action in data.drover.roles[_role]} if {
	is_object(data.drover.roles)
}

_actions := _shipped_roles[_role] if not _has_roles

_has_roles if is_object(data.drover.roles)

_refusals contains $"role {_role} may not {_action}" if not _action in _actions

# whoever can restart the shepherd must not also be the second pair of eyes
_refusals contains "local-root approves nothing" if {
	_action in {"approve", "secure"}
	_role == "local-root"
}

_refusals contains $"{_name} does not own it" if {
	_role in _confined
	_is_somebodys
	not _is_own
}

_is_somebodys if is_string(_owner)

_is_own if _owner == _name
