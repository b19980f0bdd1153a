/**
 * A site of another owner is taken in while the shepherd runs, with a host of its own, and an environment lives there at
 * once: with the real Terraform. The owner's policy is asked from the first machine on, and the site goes when nothing
 * names it.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineView, SiteView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
/** East takes machines of class batch only. */
let policy: string;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  policy = join(bench.directory, "east-policy");
  mkdirSync(policy);
  writeFileSync(
    join(policy, "data.yaml"),
    "drover:\n  constraints:\n    site_accepts_class:\n      classes: { level: deny, params: { site: east, classes: [batch] } }\n  exemptions: []\n",
  );
  stack = await bench.stack("sites", site());
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

const site = (folder = policy) => `
resource "drover_site" "east" {
  name   = "east"
  owner  = "erin"
  policy = "${folder}"
}
`;
const host = `
resource "drover_host" "east_1" {
  site              = drover_site.east.name
  name              = "east-1"
  migration_address = "192.0.2.21"
  lend              = { cpu_percent = 400, memory_mib = 4096, disk_gib = 100 }
}
`;
const machine = (kind: string) => `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "it"
  class = "${kind}"
  sites = ["east"]
}
resource "drover_machine" "m" {
  environment_id = drover_environment.it.id
  name           = "m"
  # a plan knows that an id will not be null, before it knows the id
  count    = drover_environment.it.id == null ? 0 : 1
  image_id       = drover_image.base.id
  networks       = []
}
`;
const flat = (text: string) => text.replaceAll(/[\s│╷╵]+/g, " ");
async function terraform(args: readonly string[], configuration: string) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(args);
  return { code, said: flat(stdout + stderr) };
}
const apply = (configuration: string) => terraform(["apply", "-auto-approve"], configuration);
async function sites(): Promise<readonly string[]> {
  const { items } = await bench.client.get<{ items: SiteView[] }>("/v1/sites");
  return items.map(({ id }) => id);
}
async function machines(): Promise<readonly unknown[]> {
  const { items } = await bench.client.get<{ items: MachineView[] }>("/v1/machines");
  return items.map(({ effective }) => effective.host);
}

test("a policy that cannot be loaded is refused at its attribute, and nothing is registered", async () => {
  const { code, said } = await apply(site("/nowhere"));
  expect(code).toBe(1);
  expect(said).toContain("policy.not_loaded");
  expect(said).toContain('policy = "/nowhere"');
  expect(await sites()).toEqual(["north", "south"]);
}, 60_000);

test("its owner's policy is asked: what it does not take is denied at plan, what it takes runs there", async () => {
  expect(await apply(site() + host)).toMatchObject({ code: 0 });
  expect(await sites()).toEqual(["north", "south", "east"]);
  const refused = await terraform(["plan"], site() + host + machine("sensitive"));
  expect(refused.code).toBe(1);
  expect(refused.said).toContain("site_accepts_class (site:east)");
  expect(await apply(site() + host + machine("batch"))).toMatchObject({ code: 0 });
  expect(await machines()).toEqual(["east-1"]);
}, 120_000);

test("a restart of the shepherd finds both again, with the policy", async () => {
  await bench.crashShepherd();
  await bench.start();
  await until("the machine to be seen", 20_000, async () => (await machines())[0] === "east-1");
  const { code } = await terraform(
    ["plan", "-detailed-exitcode"],
    site() + host + machine("batch"),
  );
  expect(code).toBe(0);
  await expect(bench.client.get("/v1/policies/site:east")).resolves.toMatchObject({
    problem: null,
  });
}, 60_000);

test("it goes when nothing names it any more", async () => {
  const early = await bench.client.call("DELETE", "/v1/site-registrations/east").then(
    () => "gone",
    (error: unknown) => String(error),
  );
  expect(early).toContain("object.in_use");
  await stack.must(["destroy", "-auto-approve"]);
  expect(await sites()).toEqual(["north", "south"]);
}, 120_000);
