/** Groups, as a stack declares them and as their guests scale them: one shepherd on simulated hosts for all. */
import type {
  AdaptationView,
  ForecastView,
  GroupBody,
  GroupView,
  LinkView,
  MachineView,
  RequestAnswer,
} from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Guest, speakTo } from "../../simulation/shepherd.ts";
import { declareRing, mutate, need, type Ring, type Running, run } from "./shepherd.ts";

let running: Running;
let ring: Ring;
let group: GroupView;

beforeAll(async () => {
  running = await run();
  ring = await declareRing(running, 1);
  await mutate(running, "PATCH", "/v1/environments/ring", {
    adaptation: { links: { max_added: 1, rate_mbps: { min: 1, max: 50 } } },
  });
}, 120_000);
afterAll(async () => {
  expect(running.world.violations).toEqual([]);
  await running.end();
});

function body(more: Partial<GroupBody> = {}): GroupBody {
  return {
    template: {
      image_id: ring.image.id,
      vcpus: 1,
      cpu_percent: 10,
      memory_mib: 64,
      site: "north",
      networks: [{ network_id: ring.network.id }],
      adaptation: { memory_mib: { min: 64, max: 96 } },
    },
    machine_count: 2,
    adaptation: { machine_count: { min: 2, max: 4 } },
    topology: "ring",
    topology_rate_mbps: 20,
    speaker: 0,
    ...more,
  };
}

const shown = async () => await running.client.get<GroupView>(`/v1/groups/${group.id}`);
const members = async () => (await shown()).effective.machines.map(({ name }) => name);
async function linksOfGroup(): Promise<string[]> {
  const { items } = await running.client.get<{ items: LinkView[] }>("/v1/links?environment=ring");
  return items
    .map(({ machines }) => machines.join("--"))
    .filter((name) => name.startsWith("work"))
    .toSorted();
}
/** One a machine: its port opens once, and ids must not repeat. */
const guests = new Map<string, Guest>();
async function guestOf(name: string): Promise<Guest> {
  const known = guests.get(name);
  if (known !== undefined) return known;
  const { items } = await running.client.get<{ items: MachineView[] }>(
    `/v1/machines?environment=ring&name=${name}`,
  );
  const guest = speakTo(need(running.world.guestPort(need(items[0]).id)).guest);
  guests.set(name, guest);
  return guest;
}
/** Until it holds; the shepherd acts by itself. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50));
}

test("a group is one operation: its machines, addresses and links", async () => {
  const { object, operation } = await mutate<GroupView>(
    running,
    "PUT",
    "/v1/environments/ring/groups/work",
    body(),
  );
  group = need(object);
  expect(operation?.kind).toBe("create");
  expect(await members()).toEqual(["work-0", "work-1"]);
  expect(await linksOfGroup()).toEqual(["work-0--work-1"]);
  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines?name=work-1");
  expect(items[0]).toMatchObject({
    group: "work",
    speaker: false,
    memory_mib: 64,
    origin: "stack",
    effective: { state: "running", site: "north" },
    networks: [{ address: "10.42.0.12" }],
  });
}, 60_000);

test("a member is the group's: it is neither changed nor destroyed by itself", async () => {
  const [first] = (await shown()).effective.machines;
  const path = `/v1/machines/${need(first).id}`;
  await expect(mutate(running, "PATCH", path, { memory_mib: 80 })).rejects.toMatchObject({
    code: "object.of_group",
  });
  await expect(mutate(running, "DELETE", path)).rejects.toMatchObject({ code: "object.of_group" });
});

test("a guest scales it out above the stack's floor, with its links; only its speaker may", async () => {
  const member = await guestOf("work-1");
  const { error } = await member.call("scale", { group: "work", machines: 3 });
  expect(error).toMatchObject({ code: -32602 });

  const speaker = await guestOf("work-0");
  const ask = { group: "work", machines: 4, reason: "phase 2" };
  const answer = await speaker.ask("scale", ask, "grow");
  expect(answer).toMatchObject({ verdict: "granted", granted: { machines: 4 } });
  const view = await shown();
  expect(view.effective.machines.map(({ name, origin }) => [name, origin])).toEqual([
    ["work-0", "stack"],
    ["work-1", "stack"],
    ["work-2", "adaptation"],
    ["work-3", "adaptation"],
  ]);
  expect(view.machine_count).toBe(2);
  expect(await linksOfGroup()).toEqual([
    "work-0--work-1",
    "work-0--work-3",
    "work-1--work-2",
    "work-2--work-3",
  ]);
  // The same id is answered as before, although four machines are there by now.
  expect(await speaker.ask("scale", ask, "grow")).toMatchObject({ verdict: "granted" });
  const { items } = await running.client.get<{ items: AdaptationView[] }>(
    "/v1/adaptations?environment=ring",
  );
  expect(items.find(({ group_id: id }) => id === group.id)?.values).toEqual({ machine_count: 4 });
}, 60_000);

test("beyond its bounds it is denied, with the bound: too many, and fewer than the stack declared", async () => {
  const speaker = await guestOf("work-0");
  expect(await speaker.ask("scale", { group: "work", machines: 5 })).toMatchObject({
    verdict: "denied",
    code: "envelope.machine_count",
    message: expect.stringContaining("above work's 4"),
  });
  expect(await speaker.ask("scale", { group: "work", machines: 1 })).toMatchObject({
    verdict: "denied",
    code: "envelope.machine_count",
    message: expect.stringContaining("its stack declared 2"),
  });
  expect(await members()).toHaveLength(4);
});

test("a guest takes back one of those that it added; the others stay", async () => {
  const speaker = await guestOf("work-0");
  expect(await speaker.ask("scale", { group: "work", machines: 3 })).toMatchObject({
    verdict: "granted",
  });
  expect(await members()).toEqual(["work-0", "work-1", "work-2"]);
}, 60_000);

test("release brings it back to the stack's number; what guests added is gone", async () => {
  const speaker = await guestOf("work-0");
  expect(await speaker.ask("release", { group: "work" })).toMatchObject({ verdict: "granted" });
  expect(await members()).toEqual(["work-0", "work-1"]);
  expect(await linksOfGroup()).toEqual(["work-0--work-1"]);
  const { effective } = await shown();
  expect(effective).toMatchObject({ machine_count: 2, adaptation_id: null });
}, 60_000);

test("a lease that ends removes what it had added", async () => {
  const speaker = await guestOf("work-0");
  const answer = await speaker.ask("scale", { group: "work", machines: 3, lease_s: 3 });
  expect(answer).toMatchObject({ verdict: "granted" });
  expect((await shown()).effective.lease_until_ms).not.toBeNull();
  await until(async () => (await shown()).effective.adaptation_id === null);
  expect(await members()).toEqual(["work-0", "work-1"]);
}, 60_000);

test("guests add links where the environment lets them, and take away what guests added", async () => {
  const speaker = await guestOf("work-0");
  const links = [{ machines: ["work-0", "rank-0"], rate_mbps: 30 }];
  const added = await speaker.ask("topology", { links, reason: "gather" });
  expect(added).toMatchObject({ verdict: "granted", granted: { links: [{ rate_mbps: 30 }] } });
  expect(await speaker.ask("topology", { links: [{ ...links[0], rate_mbps: 60 }] })).toMatchObject({
    verdict: "denied",
    code: "envelope.links",
  });
  const { items } = await running.client.get<{ items: LinkView[] }>(
    "/v1/links?environment=ring&machines=rank-0,work-0",
  );
  expect(items[0]).toMatchObject({ origin: "adaptation", effective: { rate_mbps: 30 } });
  // The stack's own link of its topology stays, although it is not named.
  expect(await speaker.ask("topology", { links: [] })).toMatchObject({ verdict: "granted" });
  expect(await linksOfGroup()).toEqual(["work-0--work-1"]);
  const { error } = await speaker.call("topology", {
    links: [{ machines: ["work-1", "rank-0"], rate_mbps: 1 }],
  });
  expect(error).toMatchObject({ code: -32602 });
}, 60_000);

test("a forecast is kept and shown; one beyond the envelope is denied with the nearest", async () => {
  const speaker = await guestOf("work-0");
  const phase = { phase: "solve", in_s: 60, for_s: 600, memory_mib: 96, reason: "soon" };
  expect(await speaker.ask("forecast", phase)).toMatchObject({ verdict: "granted" });
  expect(await speaker.ask("forecast", { ...phase, memory_mib: 97 })).toMatchObject({
    verdict: "denied",
    rule: "envelope",
    nearest: { memory_mib: 96 },
  });
  const { items } = await running.client.get<{ items: ForecastView[] }>("/v1/forecasts");
  expect(items).toMatchObject([
    { environment: "ring", machines: ["work-0"], phase: "solve", memory_mib: 96, reason: "soon" },
  ]);
});

test("an operator scales it too; the stack's new number supersedes the adaptation", async () => {
  const answer = await running.client.call<RequestAnswer>("POST", "/v1/requests?wait_ms=20000", {
    body: { method: "scale", environment: "ring", group: "work", params: { machines: 3 } },
  });
  expect(answer).toMatchObject({ verdict: "granted" });
  await mutate(running, "PATCH", `/v1/groups/${group.id}`, {
    machine_count: 1,
    adaptation: { machine_count: { min: 1, max: 4 } },
  });
  expect(await members()).toEqual(["work-0"]);
  expect(await shown()).toMatchObject({ machine_count: 1, effective: { adaptation_id: null } });
}, 60_000);

test("a new template reaches the members that stay, live", async () => {
  const { template } = body();
  await mutate(running, "PATCH", `/v1/groups/${group.id}`, {
    template: { ...template, memory_mib: 80, cpu_weight: 40 },
  });
  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines?name=work-0");
  const live = { memory_mib: 80, cpu_weight: 40 };
  expect(items[0]).toMatchObject({ ...live, effective: live, drift: [] });
  expect((await shown()).template).toMatchObject(live);
}, 60_000);

test("it goes as one, unless it is protected", async () => {
  const path = `/v1/groups/${group.id}`;
  const { template } = body();
  const kept = { ...template, memory_mib: 80 };
  await mutate(running, "PATCH", path, { template: { ...kept, deletion_protection: true } });
  await expect(mutate(running, "DELETE", path)).rejects.toMatchObject({ code: "object.protected" });
  await mutate(running, "PATCH", path, { template: kept });
  await mutate(running, "DELETE", path);
  await expect(running.client.get(path)).rejects.toMatchObject({ code: "object.unknown" });
  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines");
  expect(items.map(({ name }) => name)).toEqual(["rank-0"]);
}, 60_000);
