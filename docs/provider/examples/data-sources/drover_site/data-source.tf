data "drover_site" "north" {
  id = "north"
}
