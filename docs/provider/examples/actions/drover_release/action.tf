action "drover_release" "rank0" {
  config {
    environment = "ring"
    machine     = "rank-0"
  }
}
