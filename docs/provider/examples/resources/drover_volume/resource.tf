resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}

# Attach it with disks = [{ volume_id = drover_volume.results.id }] of a machine: it is /dev/vdb there.
resource "drover_volume" "results" {
  environment_id      = drover_environment.ring.id
  name                = "results"
  size_gib            = 20
  deletion_protection = true
}
