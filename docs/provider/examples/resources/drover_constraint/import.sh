terraform import drover_constraint.calm ring/calm
