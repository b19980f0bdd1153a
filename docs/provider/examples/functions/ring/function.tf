locals {
  ranks = ["rank-0", "rank-1", "rank-2", "rank-3"]
}

# rank-0 with rank-1, rank-1 with rank-2, rank-2 with rank-3, rank-3 with rank-0
resource "drover_link" "ring" {
  for_each       = { for pair in provider::drover::ring(local.ranks) : join("_", pair) => pair }
  environment_id = "0192f000-0000-7000-8000-000000000001"
  machines       = each.value
  rate_mbps      = 200
}
