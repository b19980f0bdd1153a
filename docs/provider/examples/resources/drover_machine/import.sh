terraform import drover_machine.rank0 ring/rank-0
