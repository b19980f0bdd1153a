# An upload: drover image push base.qcow2 prints the hash.
resource "drover_image" "base" {
  name   = "base"
  source = "blob:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
}
