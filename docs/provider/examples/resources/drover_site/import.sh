terraform import drover_site.east east
