data "drover_decisions" "denied" {
  environment = "ring"
  effect      = "deny"
  limit       = 20
}
