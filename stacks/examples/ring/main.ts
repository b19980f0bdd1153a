/**
 * The ring: four ranks of a parallel program on one private LAN over two sites, each linked with its neighbours.
 * Synthesize with `node stacks/synth.ts stacks/examples/ring/main.ts`; then plain `terraform apply`.
 * IMAGE_DIR names the folder of base.qcow2, kernel and initrd (the lab builds one).
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bindings, Environment, Rate, ringTopology, Size } from "@drover/stacks";
import { App, LocalBackend, TerraformStack } from "cdktf";

const imageDirectory = process.env["IMAGE_DIR"] ?? "/var/lib/drover-lab/image";
const file = (name: string) => join(imageDirectory, name);

const app = new App({
  context: { targetVersions: { terraform: ">=1.11.0", opentofu: ">=1.11.0" } },
});
const stack = new TerraformStack(app, "ring");
new LocalBackend(stack, { path: "terraform.tfstate" });
new bindings.provider.DroverProvider(stack, "drover");

const image = new bindings.image.Image(stack, "image", {
  name: "ring",
  source: file("base.qcow2"),
  sha256: createHash("sha256")
    .update(readFileSync(file("base.qcow2")))
    .digest("hex"),
  kernel: file("kernel"),
  initrd: file("initrd"),
  cmdline: "console=ttyS0 quiet",
});

const ring = new Environment(stack, "ring", {
  class: "batch",
  sites: ["north", "south"],
  cidr: "10.42.0.0/24",
});
const ranks = ring.group("rank", 4, {
  image,
  vcpus: 1,
  cpuPercent: 20,
  memory: Size.mebibytes(256),
  // The LAN spans both owners from the start: rank-1 lives at south.
  site: (index) => (index === 1 ? "south" : "north"),
  adaptation: {
    vcpus: { max: 2 },
    cpuPercent: { min: 10, max: 180 },
    memory: { min: Size.mebibytes(192), max: Size.mebibytes(1024) },
  },
  // rank-3 holds data that not every owner may host.
  override: (index) => (index === 3 ? { class: "sensitive" } : {}),
});
ring.link(ringTopology(ranks), { rate: Rate.mbps(10) });

app.synth();
