# 10.42.0.10, and 10.42.0.254 counted from the end
output "addresses" {
  value = [
    provider::drover::cidr_address("10.42.0.0/24", 10),
    provider::drover::cidr_address("10.42.0.0/24", -1),
  ]
}
