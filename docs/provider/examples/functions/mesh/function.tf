# three links for three machines: each with every other
output "links" {
  value = provider::drover::mesh(["a", "b", "c"])
}
