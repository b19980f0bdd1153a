action "drover_resize" "lanczos" {
  config {
    environment = "ring"
    group       = "rank"
    cpu_percent = 60
    memory_mib  = 512
    lease       = "1h"
    reason      = "lanczos phase"
  }
}
