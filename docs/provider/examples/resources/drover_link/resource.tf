variable "environment_id" {
  type = string
}

resource "drover_link" "r0_r1" {
  environment_id = var.environment_id
  machines       = ["rank-0", "rank-1"]
  rate_mbps      = 200
}
