resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}

# Nobody, no guest and no operator, makes a machine of the ring more than twice as large within an hour.
resource "drover_constraint" "calm" {
  environment_id = drover_environment.ring.id
  name           = "calm"
  rule           = "growth_factor"
  params = jsonencode({
    max_factor = { vcpus = 2, cpu_percent = 2, memory_mib = 2 }
  })
}
