terraform import drover_group.rank ring/rank
