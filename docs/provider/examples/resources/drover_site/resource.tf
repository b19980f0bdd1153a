# Applied by who operates the shepherd. Erin's stack registers the hosts then, with drover_host.
resource "drover_site" "east" {
  name    = "east"
  owner   = "erin"
  policy  = "/etc/drover/policies/east"
  key_dir = "/etc/drover/keys/east"
}
