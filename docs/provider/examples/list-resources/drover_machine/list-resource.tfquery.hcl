# What the shepherd manages already.
list "drover_machine" "ring" {
  provider = drover

  config {
    environment = "ring"
  }
}

# What virsh or another tool made: `terraform query -generate-config-out=imported.tf` writes configuration and import
# blocks that take it into the ring as it runs.
list "drover_machine" "old" {
  provider         = drover
  include_resource = true

  config {
    foreign     = true
    environment = "ring"
  }
}
