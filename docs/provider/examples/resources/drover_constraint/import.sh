terraform import drover_constraint.quota ring/quota
