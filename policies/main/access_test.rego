package drover.access_test

import data.drover.main

ask(role, action, object_) := answer if {
	answer := main.roles with input as {
		"subject": {"type": "operator", "name": "alice", "role": role},
		"action": action,
		"object": object_,
	}
}

ring := {"kind": "environment", "environment": "ring", "owner": "alice"}

other := {"kind": "environment", "environment": "lab", "owner": "bob"}

test_table[name] if {
	some name, row in {
		"operators operate": ["operator", "operate", other, true],
		"operators do not approve": ["operator", "approve", other, false],
		"approvers approve": ["approver", "approve", other, true],
		"approvers do not ask": ["approver", "ask", other, false],
		"security excuses": ["security", "secure", other, true],
		"security does not operate": ["security", "operate", other, false],
		"readers read": ["reader", "read", other, true],
		"readers do not ask": ["reader", "ask", other, false],
		"the local root operates": ["local-root", "operate", other, true],
		"the local root does not approve": ["local-root", "approve", other, false],
		"a stack declares its own": ["stack", "declare", ring, true],
		"a stack does not read what is not its own": ["stack", "read", other, false],
		"an unknown role does nothing": ["boss", "read", ring, false],
	}
	answer := ask(row[0], row[1], row[2])
	answer.allow == row[3]
}

test_what_nobody_owns_is_nobodys_to_confine if {
	answer := ask("stack", "read", {"kind": "site"})
	answer.allow
}

test_whose_it_is_is_asked_again_when_it_is_known if {
	answer := ask("stack", "read", {"kind": "machine", "environment": "ring"})
	answer.allow
}

test_the_reason_is_told if {
	ask("reader", "ask", ring).reason == "role reader may not ask"
	ask("stack", "read", other).reason == "alice does not own it"
	ask("reader", "read", ring).reason == "allowed"
}

test_a_question_without_a_role_is_refused if {
	answer := main.roles with input as {"subject": {"name": "x"}, "action": "read", "object": {"kind": "environment"}}
	not answer.allow
}

test_data_replaces_what_a_role_may if {
	answer := ask("reader", "ask", ring) with data.drover.roles as {"reader": ["read", "ask"]}
	answer.allow
}

test_data_that_leaves_a_role_out_takes_all if {
	answer := ask("operator", "read", ring) with data.drover.roles as {"reader": ["read"]}
	not answer.allow
}

test_data_cannot_let_the_local_root_approve[action] if {
	some action in ["approve", "secure"]
	answer := ask("local-root", action, ring) with data.drover.roles as {"local-root": ["approve", "secure"]}
	answer.reason == "local-root approves nothing"
}
