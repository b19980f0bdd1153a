resource "drover_site" "east" {
  id     = "east"
  owner  = "erin"
  policy = "/etc/drover/policies/east"

  # What raw_xml_patch of machines at this site may touch. Host paths and the qemu: namespace never.
  raw_xml_paths = ["cpu/topology@sockets"]
}
