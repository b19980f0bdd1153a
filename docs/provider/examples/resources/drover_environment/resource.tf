resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}
