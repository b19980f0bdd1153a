action "drover_move" "to_south" {
  config {
    environment = "ring"
    machine     = "rank-0"
    site        = "south"
    reason      = "north is repaired tonight"
    lease       = "12h"
  }
}
