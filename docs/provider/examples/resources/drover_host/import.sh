terraform import drover_host.north_3 north-3
