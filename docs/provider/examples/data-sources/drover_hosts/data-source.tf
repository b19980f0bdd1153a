data "drover_hosts" "north" {
  site = "north"
}
