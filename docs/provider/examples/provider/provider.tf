terraform {
  required_providers {
    drover = {
      source = "drover.dev/drover/drover"
    }
  }
}

# Endpoint and token come from DROVER_ENDPOINT and DROVER_TOKEN, else the local socket of the shepherd is used.
provider "drover" {}
