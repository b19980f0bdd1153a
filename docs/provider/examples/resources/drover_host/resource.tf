resource "drover_site" "east" {
  id     = "east"
  owner  = "erin"
  policy = "/etc/drover/policies/east"
}

resource "drover_host" "east_1" {
  id   = "east-1"
  site = drover_site.east.id

  ssh = {
    address  = "east-1.example.org"
    user     = "drover"
    key_file = "/etc/drover/keys/east"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGf0vQbbTz7DcHwj9sZ8vVpXb5h4Y6l3QnW0kP2c9dRx"
  }

  pool              = "default"
  migration_address = "192.0.2.11"

  lend = {
    cpu_percent = 800
    memory_mib  = 16384
    disk_gib    = 200
  }
}
