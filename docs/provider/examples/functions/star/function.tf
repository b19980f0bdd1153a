# the front end with each worker
output "links" {
  value = provider::drover::star("front", ["worker-0", "worker-1"])
}
