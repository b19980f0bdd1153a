data "drover_machine_status" "rank0" {
  environment = "ring"
  name        = "rank-0"
}
