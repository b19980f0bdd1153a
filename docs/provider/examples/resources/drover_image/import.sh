terraform import drover_image.base base
