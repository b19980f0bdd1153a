resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}

# Beside what the operator and the sites demand: this environment keeps to less.
resource "drover_constraint" "quota" {
  environment_id = drover_environment.ring.id
  name           = "quota"
  rule           = "environment_quota"
  level          = "deny"
  params         = jsonencode({ cpu_percent = 400, memory_mib = 4096 })
}
