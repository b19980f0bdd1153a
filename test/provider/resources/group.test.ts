/**
 * Groups that scale and disks that outlive their machines, with the real Terraform: what a guest was granted leaves the
 * plan empty, what the stack declares is a floor, and what nobody granted shows.
 */
import type { GroupView, LinkView, RequestAnswer, VolumeView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("group", "");
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

const ring = (count: number, more = "") => `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
  adaptation = { links = { max_added = 1, rate_mbps = { min = 1, max = 50 } } }
}
resource "drover_network" "lan" {
  environment_id = drover_environment.ring.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}
resource "drover_group" "rank" {
  environment_id     = drover_environment.ring.id
  name               = "rank"
  machine_count      = ${count}
  topology           = "ring"
  topology_rate_mbps = 50
  coupling           = "bulk_synchronous"
  adaptation         = { machine_count = { min = 2, max = 5 } }
  template = {
    image_id    = drover_image.base.id
    cpu_percent = 20
    networks    = [{ network_id = drover_network.lan.id }]
    adaptation  = { cpu_percent = { min = 10, max = 60 } }
  }
}
${more}
`;
async function apply(configuration: string): Promise<void> {
  bench.write(stack, configuration);
  await stack.must(["apply", "-auto-approve"]);
}
async function plan(configuration: string) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(["plan", "-detailed-exitcode"]);
  return { code, said: stdout + stderr };
}
async function group(): Promise<GroupView> {
  const { items } = await bench.client.get<{ items: GroupView[] }>("/v1/groups", {
    query: { environment: "ring", name: "rank" },
  });
  const [view] = items;
  if (view === undefined) throw new Error("there is no group");
  return view;
}
const names = async () => (await group()).effective.machines.map(({ name }) => name);
async function ask(method: string, params: object): Promise<RequestAnswer> {
  return await bench.client.call<RequestAnswer>("POST", "/v1/requests", {
    query: { wait_ms: 60_000 },
    waitMs: 60_000,
    body: { method, environment: "ring", group: "rank", params },
  });
}

test("a group is one resource: its machines, addresses and links are the shepherd's to make", async () => {
  await apply(ring(2));
  expect((await plan(ring(2))).code).toBe(0);
  expect(await names()).toEqual(["rank-0", "rank-1"]);
  const links = await bench.client.get<{ items: { rate_mbps: number }[] }>("/v1/links");
  expect(links.items.map(({ rate_mbps }) => rate_mbps)).toEqual([50]);
}, 180_000);

test("scaled out on request and back: plan stays empty, and shows who is there", async () => {
  expect(await ask("scale", { machines: 4 })).toMatchObject({ verdict: "granted" });
  expect((await plan(ring(2))).code).toBe(0);
  await stack.must(["refresh"]);
  const state = (await stack.state()).get("drover_group.rank");
  expect(state).toMatchObject({
    machine_count: 2,
    effective: {
      machine_count: 4,
      machines: [
        { name: "rank-0", origin: "stack" },
        { name: "rank-1", origin: "stack" },
        { name: "rank-2", origin: "adaptation" },
        { name: "rank-3", origin: "adaptation" },
      ],
    },
  });
  expect(await ask("release", {})).toMatchObject({ verdict: "granted" });
  expect(await names()).toEqual(["rank-0", "rank-1"]);
  expect((await plan(ring(2))).code).toBe(0);
}, 180_000);

test("what the stack declares is a floor, and its bounds are an end", async () => {
  expect(await ask("scale", { machines: 1 })).toMatchObject({ verdict: "denied" });
  expect(await ask("scale", { machines: 6 })).toMatchObject({ verdict: "denied" });
  expect(await names()).toEqual(["rank-0", "rank-1"]);
}, 180_000);

test("a group's mode is of its number: a person is asked, or nobody, and its machines' sizes adapt as before", async () => {
  const moded = (mode: string) =>
    ring(2).replace("{ machine_count = {", `{ mode = "${mode}", machine_count = {`);
  const scale = async () =>
    await bench.client.call<RequestAnswer>("POST", "/v1/requests", {
      query: { wait_ms: 1_000 },
      body: { method: "scale", environment: "ring", group: "rank", params: { machines: 3 } },
    });
  for (const [mode, verdict] of [
    ["approve", "pending"],
    ["advise", "denied"],
    ["pinned", "denied"],
  ] as const) {
    await apply(moded(mode));
    expect((await plan(moded(mode))).code).toBe(0);
    expect([mode, (await scale()).verdict]).toEqual([mode, verdict]);
    expect(await names()).toEqual(["rank-0", "rank-1"]);
  }
  expect(await ask("resize", { cpu_percent: 40 })).toMatchObject({ verdict: "granted" });
  expect(await ask("release", {})).toMatchObject({ verdict: "granted" });
  await apply(ring(2));
}, 180_000);

test("the stack's own edit of the number wins over what was granted, with a warning", async () => {
  expect(await ask("scale", { machines: 4 })).toMatchObject({ verdict: "granted" });
  const { code, said } = await plan(ring(3));
  expect(code).toBe(2);
  expect(said).toMatch(/An approved adaptation will be superseded/);
  expect(said).toMatch(/machine_count\s+= 4 -> 3/);
  await apply(ring(3));
  expect(await names()).toEqual(["rank-0", "rank-1", "rank-2"]);
  expect((await plan(ring(3))).code).toBe(0);
}, 180_000);

test("a link that a guest added leaves the plan empty, and goes when it is not asked for any more", async () => {
  await apply(ring(4));
  const added = async () => {
    const { items } = await bench.client.get<{ items: LinkView[] }>("/v1/links");
    return items.filter(({ origin }) => origin === "adaptation").map(({ machines }) => machines);
  };
  const topology = (links: object[]) => ask("topology", { links });
  const across = { machines: ["rank-0", "rank-2"], rate_mbps: 20 };
  expect(await topology([across])).toMatchObject({ verdict: "granted" });
  expect(await added()).toEqual([["rank-0", "rank-2"]]);
  expect((await plan(ring(4))).code).toBe(0);
  expect(await topology([across, { machines: ["rank-1", "rank-3"], rate_mbps: 20 }])).toMatchObject(
    { verdict: "denied" },
  );
  expect(await topology([])).toMatchObject({ verdict: "granted" });
  expect(await added()).toEqual([]);
  await apply(ring(3));
}, 180_000);

test("an edit of the template changes every machine in place", async () => {
  const before = (await group()).effective.machines.map(({ id }) => id);
  const faster = ring(3).replace("cpu_percent = 20", "cpu_percent = 40");
  await apply(faster);
  const machines = await bench.client.get<{ items: { id: string; cpu_percent: number }[] }>(
    "/v1/machines",
  );
  expect(machines.items.map(({ cpu_percent }) => cpu_percent)).toEqual([40, 40, 40]);
  expect((await group()).effective.machines.map(({ id }) => id)).toEqual(before);
  expect((await plan(faster)).code).toBe(0);
  await apply(ring(3));
}, 180_000);

const volume = (size: number, attached: boolean) => `
resource "drover_volume" "results" {
  environment_id      = drover_environment.ring.id
  name                = "results"
  size_gib            = ${size}
  deletion_protection = true
}
${
  attached
    ? `resource "drover_machine" "store" {
  environment_id = drover_environment.ring.id
  name           = "store"
  image_id       = drover_image.base.id
  networks       = []
  disks          = [{ volume_id = drover_volume.results.id }]
}
`
    : ""
}`;

test("a machine that keeps its disk leaves it as a volume, and the stack may take that in", async () => {
  const keeper = (keeps: boolean) => `
resource "drover_machine" "store" {
  environment_id = drover_environment.ring.id
  name           = "store"
  image_id       = drover_image.base.id
  networks       = []
  keep_disk      = ${keeps}
}`;
  const volumes = async () =>
    (await bench.client.get<{ items: VolumeView[] }>("/v1/volumes")).items;
  await apply(ring(2, keeper(true)));
  expect((await plan(ring(2))).said).toMatch(/0 to add, 0 to change, 1 to destroy/);
  await apply(ring(2));
  const [kept, ...more] = await volumes();
  expect(more).toEqual([]);
  expect(kept).toMatchObject({ name: "store-disk", effective: { machine: null } });
  const taken = `
import {
  to = drover_volume.kept
  id = "ring/store-disk"
}
resource "drover_volume" "kept" {
  environment_id = drover_environment.ring.id
  name           = "store-disk"
  size_gib       = ${kept?.size_gib}
}`;
  const imported = await plan(ring(2, taken));
  expect(imported.said).toMatch(/1 to import, 0 to add, 0 to change, 0 to destroy/);
  await bench.client.call("DELETE", `/v1/volumes/${kept?.id}`, { waitMs: 60_000 });
}, 180_000);

test("a volume outlives its machine, grows under it, and is protected", async () => {
  const find = async () =>
    (await bench.client.get<{ items: VolumeView[] }>("/v1/volumes")).items[0];
  await apply(ring(2, volume(2, true)));
  expect(await find()).toMatchObject({ size_gib: 2, effective: { machine: "store" } });
  expect((await plan(ring(2, volume(2, true)))).code).toBe(0);
  await apply(ring(2, volume(2, false)));
  const kept = await find();
  expect(kept).toMatchObject({ size_gib: 2, effective: { machine: null } });
  await apply(ring(2, volume(2, true)));
  expect(await find()).toMatchObject({ id: kept?.id, effective: { machine: "store" } });
  const larger = await plan(ring(2, volume(3, true)));
  expect(larger.said).toMatch(/size_gib\s+= 2 -> 3/);
  expect(larger.said).toMatch(/"size_gib" = "live"/);
  await apply(ring(2, volume(3, true)));
  expect(await find()).toMatchObject({ id: kept?.id, size_gib: 3 });
  expect((await plan(ring(2, volume(3, true)))).code).toBe(0);
  expect((await plan(ring(2, volume(2, true)))).said).toMatch(/A volume never shrinks/);
  const huge = await plan(ring(2, volume(300, true)));
  expect(huge.said).toMatch(/its host has room for \d+\s+GiB more/);
  expect((await plan(ring(2))).said).toMatch(/It is protected from deletion/);
  await apply(ring(2, volume(3, true).replace("= true", "= false")));
  await stack.must(["destroy", "-auto-approve"]);
  for (const path of ["/v1/groups", "/v1/machines", "/v1/volumes", "/v1/links"])
    expect(await bench.client.get(path)).toEqual({ items: [] });
}, 180_000);
