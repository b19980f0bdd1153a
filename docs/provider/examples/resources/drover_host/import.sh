terraform import drover_host.east_1 east-1
