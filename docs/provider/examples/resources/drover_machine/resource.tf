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

resource "drover_machine" "rank0" {
  environment_id = drover_environment.ring.id
  name           = "rank-0"
  group          = "rank"
  speaker        = true
  image_id       = drover_image.base.id

  # Baselines: an edit takes effect live, an edit of site is a live move.
  vcpus       = 1
  cpu_percent = 20
  memory_mib  = 256
  site        = "north"

  networks = [{ network_id = drover_network.lan.id, address = "10.42.0.10" }]

  # How far the guest, an operator or automation may take it, if policy agrees. Plan stays empty then.
  adaptation = {
    mode        = "auto"
    cpu_percent = { min = 10, max = 60 }
    memory_mib  = { min = 192, max = 1024 }
    sites       = ["north", "south"]

    pinned_attributes = ["vcpus"]
  }

  # What it is booted able to reach; raising it later needs a restart, which must be allowed.
  ceiling       = { memory_mib = 2048 }
  allow_restart = false

  # At destroy the guest is asked to power off, and cut off after a minute.
  stop_timeout_s      = 60
  deletion_protection = true

  timeouts = { create = "20m", update = "30m" }
}
