resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}

resource "drover_network" "lan" {
  environment_id = drover_environment.ring.id
  name           = "lan"
  cidr           = "10.42.0.0/24"

  # A way out that stays where it is, whatever moves.
  gateway = { site = "north", nat = true }
}
