import { join } from "node:path";
import type { MachineSpec } from "@drover/shepherd/model/objects";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import { liftHold, placeHold } from "@drover/shepherd/policy/hold";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { driftOf } from "@drover/shepherd/sensing/drift";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { type Shepherd, siteOf, startShepherd } from "./shepherd.ts";

/** The policies that ship, compiled; the shepherd runs ten times as fast as its hosts pretend. */
const folders = {
  operator: "operator",
  "owner:*": "owner",
  "site:north": "site-north",
  "site:south": "site-south",
};
const engines = new Map<string, PolicyEngine>();
beforeAll(async () => {
  for (const [owner, folder] of Object.entries(folders)) {
    const source = { owner, folder: join(libraryFolder, "data", folder) };
    engines.set(owner, await openPolicy(source));
  }
}, 120_000);
afterAll(async () => {
  for (const engine of engines.values()) await engine.close();
});

let shepherd: Shepherd;
/** Starts the shepherd that comes after this one. */
let next: (after: Shepherd) => Promise<Shepherd>;
afterEach(async () => {
  expect(shepherd.world.violations).toEqual([]);
  await shepherd.stop();
});

async function ring(
  machines: readonly (Partial<MachineSpec> & { name: string })[],
  memoryMib = { north1: 1024, north2: 1024, south: 4096 },
  { scale = 10, copyMbps = 1_600 } = {},
): Promise<void> {
  const clock = createScaledClock({ scale, originMs: Date.now() });
  const options = {
    clock,
    engines,
    speeds: { copyMbps },
    sites: [
      siteOf("north", {
        "north-1": { cpuPercent: 200, memoryMib: memoryMib.north1 },
        "north-2": { cpuPercent: 200, memoryMib: memoryMib.north2 },
      }),
      siteOf("south", { "south-1": { cpuPercent: 400, memoryMib: memoryMib.south } }),
    ],
  };
  shepherd = await startShepherd(options);
  next = (after) => startShepherd({ ...options, after });
  for (const { decision } of await shepherd.create(machines)) {
    expect(decision).toMatchObject({ effect: "allow" });
  }
  await shepherd.settled();
}
const inside = async (name: string) =>
  shepherd.world.insideGuest((await shepherd.machine(name)).id);
const refused = async () => {
  const events = await shepherd.store.read((journal) => journal.events.since(0, 100_000));
  const counts: Record<string, number> = {};
  let rows = 0;
  for (const { kind, data } of events) {
    if (kind !== "request.refused") continue;
    rows += 1;
    const reason = String(data["reason"]);
    counts[reason] = (counts[reason] ?? 0) + Number(data["count"]);
  }
  return { counts, rows };
};

test("ask and get: a line in, granted, in force inside the guest; the same id again gets the same answer", async () => {
  await ring([{ name: "rank-0" }]);
  const guest = await shepherd.guest("rank-0");
  const ask = { cpu_percent: 60, memory_mib: 320, lease_s: 3600, reason: "\u001b[31mlanczos" };
  const result = await guest.ask("resize", ask, "7");
  expect(result).toMatchObject({
    verdict: "granted",
    code: "granted",
    granted: { cpu_percent: 60, memory_mib: 320 },
    message: "60 % of a core, 320 MiB",
    lease_until_ms: expect.any(Number),
    in_force_after_ms: expect.any(Number),
  });
  expect(await inside("rank-0")).toMatchObject({ cpuPercent: 60 });
  expect(await guest.ask("resize", ask, "7")).toEqual(result);
  expect((await guest.call("resize", { ...ask, cpu_percent: 50 }, "7")).error?.code).toBe(-32003);
  const [adaptation] = await shepherd.store.read((journal) => journal.adaptations.list());
  expect(adaptation).toMatchObject({
    values: { cpuPercent: 60, memoryMib: 320 },
    reason: "\ufffd[31mlanczos",
  });
  const { lease_until_ms: until } = { lease_until_ms: 0, ...result };
  const longer = await guest.ask("resize", { cpu_percent: 60, memory_mib: 320, lease_s: 7200 });
  expect(longer?.["lease_until_ms"]).toBeGreaterThan(until + 3_000_000);
  expect((await guest.call("status")).result).toMatchObject({
    protocol: 1,
    machine: "rank-0",
    effective: { vcpus: 1, cpu_percent: 60, memory_mib: 320 },
    baseline: { vcpus: 1, cpu_percent: 20, memory_mib: 256 },
  });
});

test("as a group: one ask of the speaker, one decision, everyone has it; another member may not", async () => {
  const names = ["rank-0", "rank-1", "rank-2", "rank-3"];
  await ring(names.map((name, n) => ({ name, group: "rank", speaker: n === 0 })));
  const speaker = await shepherd.guest("rank-0");
  const result = await speaker.ask("resize", {
    group: "rank",
    cpu_percent: 60,
    memory_mib: 320,
    lease_s: 3600,
  });
  expect(result).toMatchObject({ verdict: "granted" });
  expect(result?.["machines"]).toEqual(
    names.map((machine) => ({
      machine,
      verdict: "granted",
      granted: { cpu_percent: 60, memory_mib: 320 },
      message: "60 % of a core, 320 MiB",
    })),
  );
  for (const name of names) expect(await inside(name)).toMatchObject({ cpuPercent: 60 });
  const other = await shepherd.guest("rank-1");
  expect((await other.call("resize", { group: "rank", vcpus: 2 })).error).toMatchObject({
    code: -32602,
    data: { path: "group" },
  });
});

test("too much: the rule, the number, the nearest that passes", async () => {
  await ring([{ name: "rank-1" }]);
  const guest = await shepherd.guest("rank-1");
  const result = await guest.ask("resize", { cpu_percent: 6400 });
  expect(result).toMatchObject({
    verdict: "denied",
    code: "policy.denied",
    rule: "envelope",
    nearest: { cpu_percent: 60 },
    message: expect.stringContaining("6400 %"),
  });
  expect(result?.["message"]).not.toMatch(/north|south/);
});

test("no room here: first to the other host of the site, then across owners, the same guest all the time", async () => {
  await ring([{ name: "rank-0" }, { name: "rank-2" }], { north1: 600, north2: 700, south: 4096 });
  const before = await inside("rank-2");
  const guest = await shepherd.guest("rank-2");
  const other = before?.hostId === "north-1" ? "north-2" : "north-1";
  const lendMib = other === "north-2" ? 700 : 600;
  // The neighbour leaves so much room on its host, and no more.
  const first = await guest.ask("resize", { memory_mib: lendMib - 260 });
  expect(first).toMatchObject({ verdict: "granted" });
  const result = await guest.ask("resize", { memory_mib: 1000 }, "far");
  expect(result).toMatchObject({
    verdict: "granted",
    granted: { memory_mib: 1000, site: "south" },
  });
  expect(await inside("rank-2")).toMatchObject({ hostId: "south-1", bootId: before?.bootId });
  const decisions = await shepherd.store.read((journal) =>
    journal.decisions.list({ environmentId: "env-ring", limit: 1 }),
  );
  expect(decisions[0]?.consents.map(({ owner, effect }) => `${owner} ${effect}`)).toEqual([
    "operator allow",
    "owner:alice allow",
    "site:north allow",
    "site:south allow",
  ]);
});

test("a site says no: the destination's own policy, nothing copied, nothing changed", async () => {
  await ring([{ name: "rank-3", class: "sensitive" }], { north1: 600, north2: 600, south: 4096 });
  const before = await shepherd.machine("rank-3");
  const guest = await shepherd.guest("rank-3");
  const result = await guest.ask("resize", { memory_mib: 1000 });
  expect(result).toMatchObject({ verdict: "denied", rule: "site_accepts_class" });
  expect(result?.["message"]).toMatch(/^site south says: .*sensitive/);
  expect((await shepherd.machine("rank-3")).version).toBe(before.version);
});

test("the lease ends: back to the baseline and home by itself, no adaptation left", async () => {
  await ring([{ name: "rank-0" }], { north1: 600, north2: 600, south: 4096 });
  const guest = await shepherd.guest("rank-0");
  await guest.ask("resize", { memory_mib: 900, lease_s: 10 });
  expect(await inside("rank-0")).toMatchObject({ hostId: "south-1" });
  for (;;) {
    const left = await shepherd.store.read((journal) => journal.adaptations.list());
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect((await shepherd.machine("rank-0")).effective).toMatchObject({
    memoryMib: 256,
    siteId: "north",
    state: "running",
  });
  expect((await shepherd.machine("rank-0")).effective.adaptationId).toBeUndefined();
});

test("garbage is refused, answered seldom, counted in few rows, and hurts nobody", async () => {
  await ring([{ name: "rank-1" }, { name: "rank-2" }]);
  const bad = await shepherd.guest("rank-1");
  const good = await shepherd.guest("rank-2");
  bad.send("this is no JSON\n");
  bad.send(Uint8Array.from([0x7b, 0xff, 0xfe, 0x7d, 0x0a]));
  bad.send('[{"jsonrpc":"2.0","id":"1","method":"status"}]\n');
  bad.send('{"jsonrpc":"2.0","id":"x y","method":"status"}\n');
  for (let n = 0; n < 160; n++) bad.send(Buffer.alloc(65_536, "x"));
  bad.send("\n");
  expect((await bad.call("launch")).error).toMatchObject({
    code: -32601,
    data: {
      methods: ["resize", "rate", "move", "scale", "topology", "release", "forecast", "status"],
    },
  });
  expect((await bad.call("resize", { cpu_percent: 60, machine: "rank-2" })).error).toMatchObject({
    code: -32602,
    data: { path: "machine" },
  });
  expect(await good.ask("resize", { cpu_percent: 40 })).toMatchObject({
    verdict: "granted",
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect((await refused()).counts).toEqual({
    not_json: 1,
    not_utf8: 1,
    not_a_request: 2,
    line_too_long: 1,
    unknown_method: 1,
    bad_parameter: 1,
  });
  expect(bad.messages.filter(({ id }) => id === null).length).toBeLessThanOrEqual(2);
});

test("a flood of 1,000 from one guest while honest guests are served", async () => {
  // In real time: how many decisions a second fit is part of the question.
  await ring(
    ["rank-0", "rank-1", "rank-2", "rank-3"].map((name) => ({ name })),
    undefined,
    { scale: 1 },
  );
  const flooder = await shepherd.guest("rank-1");
  const honest = await Promise.all(["rank-0", "rank-2", "rank-3"].map(shepherd.guest));
  for (let n = 0; n < 1_000; n++) {
    const params = { cpu_percent: 6400 };
    flooder.send(`${JSON.stringify({ jsonrpc: "2.0", id: `f${n}`, method: "resize", params })}\n`);
  }
  const answers = await Promise.all(
    honest.flatMap((guest) => [
      guest.ask("resize", { cpu_percent: 40 }),
      guest.ask("resize", { cpu_percent: 6400 }),
    ]),
  );
  expect(answers.map((result) => result?.["verdict"])).toEqual(
    Array.from({ length: 3 }, () => ["granted", "denied"]).flat(),
  );
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  const { counts, rows } = await refused();
  const judged = await shepherd.store.read(async (journal) =>
    (await journal.requests.since(0)).filter(({ subject }) => subject.name === "rank-1"),
  );
  const dropped = counts["rate"] ?? 0;
  const created = 1;
  expect(judged.length - created + dropped).toBeLessThanOrEqual(1_000);
  expect(dropped).toBeGreaterThan(900);
  expect(judged.length).toBeLessThan(100);
  expect(rows).toBeLessThan(20);
  const limited = flooder.messages.filter(({ error }) => error?.code === -32002);
  expect(limited.length).toBeGreaterThan(0);
  expect(limited.length).toBeLessThan(100);
});

test("slow work: pending, progress, the end; asked again after the move, the same id tells how it ended", async () => {
  await ring([{ name: "rank-0" }], { north1: 600, north2: 600, south: 4096 }, { copyMbps: 400 });
  const guest = await shepherd.guest("rank-0");
  const ask = { memory_mib: 900 };
  const { result } = await guest.call("resize", ask, "slow");
  expect(result).toMatchObject({
    verdict: "pending",
    code: "operation.running",
    decision: expect.any(String),
    operation: expect.any(String),
  });
  // The same words while it is at work are not asked twice, other words are refused.
  expect((await guest.call("resize", { memory_mib: 901 }, "slow")).error?.code).toBe(-32003);
  const final = await guest.next(({ params }) => params?.["final"] === true);
  expect(final).toMatchObject({
    method: "progress",
    params: {
      id: "slow",
      percent: 100,
      result: { verdict: "granted", granted: { site: "south" } },
    },
  });
  const progress = guest.messages.filter(
    ({ method, params }) => method === "progress" && params?.["final"] === undefined,
  );
  expect(progress.length).toBeGreaterThan(0);
  expect((await guest.call("resize", ask, "slow")).result).toEqual(final.params?.["result"]);
  const requests = await shepherd.store.read((journal) => journal.requests.since(0));
  expect(requests.filter(({ kind }) => kind === "resize")).toHaveLength(1);
});

test("an ask during other work waits for it, and is told so", async () => {
  await ring([{ name: "rank-0" }], { north1: 600, north2: 600, south: 4096 }, { copyMbps: 400 });
  const guest = await shepherd.guest("rank-0");
  guest.send(
    '{"jsonrpc":"2.0","id":"1","method":"resize","params":{"memory_mib":900}}\n' +
      '{"jsonrpc":"2.0","id":"2","method":"resize","params":{"cpu_percent":40}}\n',
  );
  const second = await guest.next(({ id }) => id === "2");
  expect(second.result).toMatchObject({ verdict: "pending", code: "request.waiting" });
  const final = await guest.next(
    ({ params }) => params?.["id"] === "2" && params["final"] === true,
  );
  expect(final.params?.["result"]).toMatchObject({ verdict: "granted" });
  expect(await inside("rank-0")).toMatchObject({ cpuPercent: 40, hostId: "south-1" });
});

test("ten creates at once for the last room: one wins, nine are told who and why", async () => {
  await ring([], { north1: 700, north2: 100, south: 100 });
  const baseline = { vcpus: 1, cpuPercent: 20, memoryMib: 600, siteId: "north" };
  const answers = await shepherd.create(
    Array.from({ length: 10 }, (_, n) => ({ name: `new-${n}`, baseline })),
  );
  const codes = answers.map(({ decision }) => decision.code);
  expect(codes).toEqual(["granted", ...Array<string>(9).fill("placement.no_host_fits")]);
  expect(answers.at(-1)?.decision.message).toMatch(/2 short of memory, 1 outside its sites/);
});

test("a foreign machine counts as used room as soon as it is there", async () => {
  await ring([{ name: "rank-0", envelope: { mode: "auto", memoryMib: { min: 192, max: 1024 } } }]);
  for (const id of ["north-1", "north-2"]) {
    shepherd.world.startForeign(id, {
      id: `foreign-${id}`,
      name: "foreign",
      vcpus: 1,
      memoryMib: 600,
    });
  }
  const guest = await shepherd.guest("rank-0");
  const result = await guest.ask("resize", { memory_mib: 800 });
  expect(result).toMatchObject({
    verdict: "denied",
    code: "placement.no_host_fits",
    message: "No room: no host at the sites it may use can hold it now.",
  });
});

test("a host that hangs delays no decision about others", async () => {
  await ring([{ name: "rank-0" }, { name: "rank-1" }]);
  const [one, two] = [await shepherd.machine("rank-0"), await shepherd.machine("rank-1")];
  expect(one.effective.hostId).not.toBe(two.effective.hostId);
  const guest = await shepherd.guest("rank-1");
  shepherd.world.setReachable(one.effective.hostId, false);
  const result = await guest.ask("resize", { cpu_percent: 40 });
  expect(result).toMatchObject({ verdict: "granted" });
  expect(result?.["in_force_after_ms"]).toBeLessThan(5_000);
});

test("killed and started again: the same id gets its answer, a lease that ended meanwhile is released", async () => {
  await ring([{ name: "rank-0" }, { name: "rank-1" }]);
  const guest = await shepherd.guest("rank-0");
  const ask = { cpu_percent: 60, memory_mib: 320, lease_s: 5 };
  const result = await guest.ask("resize", ask, "before");
  expect(result).toMatchObject({ verdict: "granted" });
  await shepherd.die();
  // Six seconds of this world pass without a shepherd.
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(await inside("rank-0")).toMatchObject({ cpuPercent: 60 });
  shepherd = await next(shepherd);
  await shepherd.settled();
  for (;;) {
    const left = await shepherd.store.read((journal) => journal.adaptations.list());
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(await inside("rank-0")).toMatchObject({ cpuPercent: 20 });
  const again = await guest.ask("resize", ask, "before");
  expect(again?.["decision"]).toBe(result?.["decision"]);
  const fresh = await guest.ask("resize", { cpu_percent: 30 }, "after");
  expect(fresh).toMatchObject({ verdict: "granted" });
});

test("a hold stops growth at once and lets giving back through", async () => {
  await ring([{ name: "rank-0" }]);
  const guest = await shepherd.guest("rank-0");
  await guest.ask("resize", { cpu_percent: 60 });
  const world = { store: shepherd.store, clock: shepherd.world.clock };
  await placeHold(world, { scope: "everything", by: "ops", reason: "fire drill" });
  expect(await guest.ask("resize", { memory_mib: 320 })).toMatchObject({
    verdict: "denied",
    code: "hold.active",
    message: "hold: fire drill (until it is lifted)",
  });
  expect(await guest.ask("release")).toMatchObject({
    verdict: "granted",
    granted: { cpu_percent: 20, memory_mib: 256, vcpus: 1 },
  });
  await liftHold(world, "everything", "ops");
  expect(await guest.ask("resize", { memory_mib: 320 })).toMatchObject({ verdict: "granted" });
});

test("memory changed behind our back shows as soon as the granted one was reached", async () => {
  await ring([{ name: "rank-0" }]);
  const guest = await shepherd.guest("rank-0");
  await guest.ask("resize", { memory_mib: 320 });
  const drift = async () => {
    await shepherd.observer.refresh();
    const record = await shepherd.machine("rank-0");
    return driftOf(record, shepherd.observer.observedMachine(record.id), () => undefined);
  };
  expect(await drift()).toEqual([]);
  // Long enough for the balloon, and for some looks that find it there.
  await new Promise((resolve) => setTimeout(resolve, 1_800));
  const record = await shepherd.machine("rank-0");
  expect(record.effective.settlingFromMib).toBeUndefined();
  shepherd.world.setMemoryBehind(record.effective.hostId, record.id, 300);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(await drift()).toEqual([{ attribute: "memoryMib", expected: 320, actual: 300 }]);
  const { decision } = await shepherd.submit({
    kind: "update",
    machines: [{ machineId: record.id, memoryMib: 320 }],
  });
  expect(decision.effect).toBe("allow");
  await shepherd.settled();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(await drift()).toEqual([]);
});
