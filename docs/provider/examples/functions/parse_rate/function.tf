# 200
output "rate_mbps" {
  value = provider::drover::parse_rate("0.2Gbit/s").mbps
}
