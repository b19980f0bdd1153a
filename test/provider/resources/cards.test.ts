/**
 * Network cards and networks that are edited in place, with the real Terraform: no edit replaces a machine or a network,
 * the plan says how it is put in force, and the guest's cards at its host are what the stack says.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineView, NetworkView } from "@drover/shepherd/api/contract";
import type { WorldData } from "@drover/shepherd/simulated/data";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("cards", "");
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

const lan = `{ network_id = drover_network.lan.id }`;
const side = `{ network_id = drover_network.side.id }`;
const lanAt = (address: string) => `{ network_id = drover_network.lan.id, address = "${address}" }`;
const text = (cards: readonly string[], network = "", group: readonly string[] = [lan]) => `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "cards"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_network" "lan" {
  environment_id = drover_environment.it.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
  ${network}
}
resource "drover_network" "side" {
  environment_id = drover_environment.it.id
  name           = "side"
  cidr           = "10.43.0.0/24"
}
resource "drover_machine" "m" {
  environment_id = drover_environment.it.id
  name           = "m"
  image_id       = drover_image.base.id
  networks       = [${cards.join(", ")}]
}
resource "drover_group" "g" {
  environment_id = drover_environment.it.id
  name           = "g"
  machine_count  = 1
  template       = { image_id = drover_image.base.id, networks = [${group.join(", ")}] }
}
`;
const flat = (said: string) => said.replaceAll(/[\s│╷╵]+/g, " ");
async function plan(configuration: string) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(["plan", "-detailed-exitcode"]);
  return { code, said: flat(stdout + stderr) };
}
async function apply(configuration: string): Promise<void> {
  bench.write(stack, configuration);
  await stack.must(["apply", "-auto-approve"]);
  expect((await plan(configuration)).code).toBe(0);
}
async function machine(name: string): Promise<MachineView> {
  const query = { environment: "cards", name };
  const { items } = await bench.client.get<{ items: MachineView[] }>("/v1/machines", { query });
  const [view] = items;
  if (view === undefined) throw new Error(`there is no machine ${name}`);
  return view;
}
const addresses = async (name: string) =>
  (await machine(name)).networks.map(({ address }) => address);
/** The MACs that its host knows. */
function plugged(id: string): readonly string[] {
  const file = join(bench.directory, "state", "simulated.json");
  const world = JSON.parse(readFileSync(file, "utf8")) as WorldData;
  const domains = Object.values(world.hosts).flatMap((host) => host.domains[id] ?? []);
  return domains.flatMap(({ spec }) => spec?.nics.map(({ mac }) => mac) ?? []).toSorted();
}
async function expectPlugged(view: MachineView): Promise<void> {
  expect(plugged(view.id)).toEqual(view.networks.map(({ mac }) => mac).toSorted());
}

test("a card is added and taken away while the machine lives, and the order is the stack's", async () => {
  await apply(text([lan]));
  const before = await machine("m");
  const more = await plan(text([side, lan]));
  expect(more.said).toMatch(/1 to change, 0 to destroy/);
  expect(more.said).toMatch(/"networks" = "live"/);
  await apply(text([side, lan]));
  const after = await machine("m");
  expect(after).toMatchObject({ id: before.id, effective: before.effective });
  expect(after.networks).toEqual([
    expect.objectContaining({ address: "10.43.0.10" }),
    before.networks[0],
  ]);
  await expectPlugged(after);
  await apply(text([side]));
  expect(await addresses("m")).toEqual(["10.43.0.10"]);
  await expectPlugged(await machine("m"));
}, 180_000);

test("another address is another card, which plan says; a taken or wrong one is refused there", async () => {
  const moved = await plan(
    text([`{ network_id = drover_network.side.id, address = "10.43.0.77" }`]),
  );
  expect(moved.said).toMatch(/Another address is another network card/);
  const wrong = await plan(text([lanAt("10.99.0.1")]));
  expect(wrong.code).toBe(1);
  expect(wrong.said).toMatch(/network\.address_invalid/);
  await apply(text([lanAt("10.42.0.77")]));
  expect(await addresses("m")).toEqual(["10.42.0.77"]);
  await expectPlugged(await machine("m"));
  // What the card had is free for others again.
  await apply(
    text([lanAt("10.42.0.77"), `{ network_id = drover_network.side.id, address = "10.43.0.10" }`]),
  );
  expect(await addresses("m")).toEqual(["10.42.0.77", "10.43.0.10"]);
}, 180_000);

test("a card that somebody unplugs shows as exactly that, with its own address, and apply plugs it in again", async () => {
  const cards = [lan, side];
  await apply(text(cards));
  const before = await machine("m");
  await bench.behindItsBack((world) => {
    for (const { domains } of Object.values(world.hosts)) {
      const spec = domains[before.id]?.spec;
      if (spec !== undefined) Object.assign(spec, { nics: spec.nics.slice(0, 1) });
    }
  });
  const address = before.networks[1]?.address ?? "";
  const seen = await machine("m");
  expect(seen.networks.map(({ plugged }) => plugged)).toEqual([true, false]);
  expect(seen.drift).toEqual([
    {
      attribute: "networks",
      expected: before.networks.map((card) => card.address).join(", "),
      actual: before.networks[0]?.address,
    },
  ]);
  const shown = await plan(text(cards));
  expect(shown.said).toMatch(/0 to add, 1 to change, 0 to destroy/);
  expect(shown.said).toContain(`+ address = "${address}"`);
  await apply(text(cards));
  const after = await machine("m");
  expect(after.networks).toEqual(before.networks);
  await expectPlugged(after);
}, 180_000);

test("a group's machines get their cards in place too", async () => {
  const { id } = await machine("g-0");
  const more = await plan(text([lan], "", [lan, side]));
  expect(more.said).not.toMatch(/must be replaced/);
  await apply(text([lan], "", [lan, side]));
  const view = await machine("g-0");
  expect(view.id).toBe(id);
  expect(view.networks).toHaveLength(2);
  await expectPlugged(view);
}, 180_000);

test("a network's gateway comes, changes and goes in place", async () => {
  const network = async () => {
    const { items } = await bench.client.get<{ items: NetworkView[] }>("/v1/networks", {
      query: { environment: "cards", name: "lan" },
    });
    return items[0];
  };
  const before = await network();
  for (const [line, gateway] of [
    [`gateway = { site = "north" }`, { site: "north", nat: false }],
    [`gateway = { site = "south", nat = true }`, { site: "south", nat: true }],
    ["", null],
  ] as const) {
    expect((await plan(text([lan], line))).said).toMatch(/0 to add, .* 0 to destroy/);
    await apply(text([lan], line));
    expect(await network()).toMatchObject({ id: before?.id, gateway });
  }
}, 180_000);

test("destroy leaves nothing", async () => {
  await stack.must(["destroy", "-auto-approve"]);
  expect(await bench.client.get("/v1/machines")).toEqual({ items: [] });
}, 180_000);
