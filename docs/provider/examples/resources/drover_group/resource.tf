resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}

resource "drover_network" "lan" {
  environment_id = drover_environment.ring.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}

resource "drover_image" "base" {
  name   = "base"
  source = "/var/lib/images/base.qcow2"
  sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
}

# Four ranks, linked in a ring. Their speaker, rank-0, may ask for up to eight.
resource "drover_group" "rank" {
  environment_id = drover_environment.ring.id
  name           = "rank"
  machine_count  = 4
  coupling       = "bulk_synchronous"

  topology           = "ring"
  topology_rate_mbps = 200

  adaptation = {
    machine_count = { min = 4, max = 8 }
  }

  template = {
    image_id    = drover_image.base.id
    vcpus       = 1
    cpu_percent = 20
    memory_mib  = 256
    networks    = [{ network_id = drover_network.lan.id }]

    adaptation = {
      cpu_percent = { min = 10, max = 60 }
      memory_mib  = { min = 192, max = 1024 }
      sites       = ["north", "south"]
    }
  }
}
