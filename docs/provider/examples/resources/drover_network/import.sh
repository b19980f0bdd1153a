terraform import drover_network.lan ring/lan
