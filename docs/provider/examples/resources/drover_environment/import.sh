terraform import drover_environment.ring ring
