data "drover_sites" "mine" {
  owner = "nora"
}
