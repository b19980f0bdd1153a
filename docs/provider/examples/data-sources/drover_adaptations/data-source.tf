data "drover_adaptations" "ring" {
  environment = "ring"
}

# Lines to paste into the machine's resource, so that what was granted becomes its baseline.
output "adopt" {
  value = {
    for adaptation in data.drover_adaptations.ring.adaptations :
    coalesce(adaptation.machine, adaptation.link) => adaptation.hcl
  }
}
