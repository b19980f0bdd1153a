terraform import drover_volume.results ring/results
