ephemeral "drover_console" "rank0" {
  machine = "ring/rank-0"
}
