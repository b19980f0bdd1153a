# While Terraform runs, 127.0.0.1:<local_port> leads to the database, wherever rank-0 is.
ephemeral "drover_connection" "database" {
  machine = "ring/rank-0"
  port    = 5432
}
