resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]

  # What its machines inherit where they say nothing themselves.
  adaptation = {
    mode        = "auto"
    cpu_percent = { min = 10, max = 60 }
    links       = { max_added = 4, rate_mbps = { min = 1, max = 100 } }
  }
}
