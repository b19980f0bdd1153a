terraform import drover_link.r0_r1 ring/rank-0,rank-1
