package system.log_test

import data.system.log

event := {"input": {"request": {"reason": "my password is …"}}}

test_the_reason_is_left_out if log.mask == {"/input/request/reason"} with input as event

test_what_is_not_there_is_not_masked if log.mask == set() with input as {"input": {}}

test_data_adds_pointers if {
	log.mask == {"/input/request/reason", "/input/subject/name"} with input as event
		with data.drover.mask as ["/input/subject/name", 7]
}
