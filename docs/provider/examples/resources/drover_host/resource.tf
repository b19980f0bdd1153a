# At the shepherd, drover.yaml says `key_dir: keys/north` for the site; the file keys/north/fleet is the private key.
resource "drover_host" "north_3" {
  site              = "north"
  name              = "north-3"
  migration_address = "192.0.2.13"

  ssh = {
    address  = "192.0.2.13"
    key      = "fleet"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrdqxzhlnkPYrg0/DDm5XqIhvvnZcbOmQsVYmpJkaqM"
  }

  lend = { cpu_percent = 400, memory_mib = 8192, disk_gib = 200 }
}
