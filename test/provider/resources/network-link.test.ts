/**
 * A link of a machine with its network, and addresses that a stack names, with the real Terraform on simulated hosts:
 * declared, changed live, imported, and in whatever order machines are created.
 */
import type { LinkView, MachineView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("network-link", "");
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

const text = (rateMbps: number, link = "") => `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_network" "lan" {
  environment_id = drover_environment.ring.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}
resource "drover_machine" "early" {
  environment_id = drover_environment.ring.id
  name           = "early"
  image_id       = drover_image.base.id
  site           = "north"
  networks       = [{ network_id = drover_network.lan.id }]
}
resource "drover_machine" "named" {
  depends_on     = [drover_machine.early]
  environment_id = drover_environment.ring.id
  name           = "named"
  image_id       = drover_image.base.id
  site           = "south"
  networks       = [{ network_id = drover_network.lan.id, address = "10.42.0.10" }]
}
resource "drover_link" "early" {
  environment_id = drover_environment.ring.id
  machine        = drover_machine.early.name
  network        = drover_network.lan.name
  rate_mbps      = ${rateMbps}
}
${link}
`;
async function apply(configuration: string): Promise<void> {
  bench.write(stack, configuration);
  await stack.must(["apply", "-auto-approve"]);
}
const links = async () =>
  (await bench.client.get<{ items: LinkView[] }>("/v1/links?environment=ring")).items.map((one) => [
    one.machines,
    one.network,
    one.effective.rate_mbps,
  ]);

test("an address that the plan names waits for its machine, though another is created first", async () => {
  await apply(text(50));
  const { items } = await bench.client.get<{ items: MachineView[] }>("/v1/machines");
  expect(
    Object.fromEntries(items.map(({ name, networks }) => [name, networks[0]?.address])),
  ).toEqual({ early: "10.42.0.11", named: "10.42.0.10" });
}, 120_000);

test("a link with the network is there, the plan stays empty, an edit takes effect live", async () => {
  expect(await links()).toEqual([[["early"], "lan", 50]]);
  expect((await stack.run(["plan", "-detailed-exitcode"])).code).toBe(0);
  await apply(text(80));
  expect(await links()).toEqual([[["early"], "lan", 80]]);
  expect((await stack.run(["plan", "-detailed-exitcode"])).code).toBe(0);
}, 120_000);

test("it is imported by its name, and what is no link is told at plan time", async () => {
  await stack.must(["state", "rm", "drover_link.early"]);
  await stack.must(["import", "drover_link.early", "ring/early@lan"]);
  expect((await stack.run(["plan", "-detailed-exitcode"])).code).toBe(0);
  const wrong = `resource "drover_link" "wrong" {
  environment_id = drover_environment.ring.id
  machines       = ["early", "named"]
  machine        = "early"
  rate_mbps      = 5
}`;
  bench.write(stack, text(80, wrong));
  const { code, stdout, stderr } = await stack.run(["plan"]);
  expect(code).toBe(1);
  expect(stdout + stderr).toMatch(/machine needs|belong together|exclude each other/);
}, 120_000);
