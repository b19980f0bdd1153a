list "drover_machine" "ring" {
  provider = drover

  config {
    environment = "ring"
  }
}
