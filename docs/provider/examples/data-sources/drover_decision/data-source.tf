variable "decision" {
  type        = string
  description = "Id that a guest, a plan or an apply has printed."
}

data "drover_decision" "asked" {
  id = var.decision
}

output "why" {
  value = data.drover_decision.asked.explanation
}
