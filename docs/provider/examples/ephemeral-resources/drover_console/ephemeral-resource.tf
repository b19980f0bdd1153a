# A machine that has no network yet is spoken to over its serial console.
ephemeral "drover_console" "rank0" {
  machine = "ring/rank-0"
}
