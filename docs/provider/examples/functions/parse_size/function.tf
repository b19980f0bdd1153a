# 2048; units in the name of an attribute say which of the values it takes
output "memory_mib" {
  value = provider::drover::parse_size("2GiB").mib
}
