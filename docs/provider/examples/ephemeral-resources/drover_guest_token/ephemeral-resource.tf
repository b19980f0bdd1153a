# A job starter outside of the machines announces phases and asks for what they need, as rank-0 would.
ephemeral "drover_guest_token" "starter" {
  machine = "ring/rank-0"
  methods = ["forecast", "resize", "release", "status"]
}
