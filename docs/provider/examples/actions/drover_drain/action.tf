action "drover_drain" "north_1" {
  config {
    host   = "north-1"
    reason = "new disks"
  }
}
