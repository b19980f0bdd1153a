import type { Adaptation, Request } from "@drover/shepherd/model/request";
import type { GateAnswer } from "@drover/shepherd/policy/gate";
import { createLeases } from "@drover/shepherd/policy/leases";
import { expect, test } from "@jest/globals";
import pino from "pino";
import { host, link, machine, nowMs } from "../planner/fleet.ts";
import { type Says, smallShepherd } from "./small-shepherd.ts";

const hosts = [host("north-1", "north"), host("south-1", "south")];
const away = machine(
  "rank-0",
  { hostId: "south-1", siteId: "south" },
  { baseline: { siteId: "north" }, effective: { memoryMib: 800 } },
);
const adaptation: Adaptation = {
  id: "a-1",
  environmentId: "env-ring",
  machineId: away.id,
  decisionId: "d-1",
  values: { memoryMib: 800, siteId: "south" },
  leaseUntilMs: nowMs + 60_000,
  reason: "",
  createdAtMs: nowMs,
};

const idleAnswer: GateAnswer = {
  decision: {
    id: "d",
    requestId: "r",
    environmentId: "env-ring",
    point: "plan",
    effect: "allow",
    code: "granted",
    message: "",
    findings: [],
    obligations: [],
    limits: {},
    consents: [],
    input: null,
    decidedAtMs: nowMs,
  },
  plan: undefined,
  operation: {
    id: "o",
    kind: "release",
    state: "succeeded",
    environmentId: "env-ring",
    machineIds: [],
    requestId: "r",
    planId: "p",
    grantId: "g",
    epoch: 1,
    progress: { percent: 100, message: "" },
    cancelRequested: false,
    createdAtMs: nowMs,
    endedAtMs: nowMs,
  },
};

async function leased(
  policies: Readonly<Record<string, Says>> = {},
  { idle = false }: { readonly idle?: boolean } = {},
) {
  const shepherd = await smallShepherd({ hosts, machines: [away], policies });
  await shepherd.store.transaction((journal) => journal.adaptations.put(adaptation));
  const submitted: Request[] = [];
  const gate = {
    submit: (request: Request) => {
      submitted.push(request);
      // An operation that says it succeeded and changed nothing.
      return idle ? Promise.resolve(idleAnswer) : shepherd.gate.submit(request);
    },
  };
  const leases = createLeases({
    store: shepherd.store,
    gate,
    operations: {
      wait: async (id) => {
        if (idleAnswer.operation !== undefined && idle) return idleAnswer.operation;
        const found = await shepherd.store.read((journal) => journal.operations.get(id));
        if (found === undefined) throw new Error("no operation");
        return found.endedAtMs === undefined ? { ...found, state: "succeeded" as const } : found;
      },
    },
    clock: shepherd.clock,
    ids: { next: () => `lease-${submitted.length}` },
    log: pino({ level: "silent" }),
  });
  const left = () => shepherd.store.read((journal) => journal.adaptations.list());
  return { ...shepherd, leases, submitted, left };
}

test("nothing happens before the lease is over; then down at once, then home, then forgotten", async () => {
  const world = await leased();
  world.leases.start();
  await world.clock.advance(59_000);
  expect(world.submitted).toEqual([]);
  await world.clock.advance(20_000);
  expect(world.submitted.map(({ kind, machines }) => [kind, machines])).toEqual([
    ["release", [{ machineId: away.id }]],
    ["move", [{ machineId: away.id, siteId: "north" }]],
  ]);
  expect(world.submitted[0]?.subject).toEqual({ type: "shepherd", name: "shepherd", roles: [] });
  expect((await world.machine(away.id))?.effective).toMatchObject({
    memoryMib: 256,
    siteId: "north",
  });
  expect(await world.left()).toEqual([]);
  world.leases.stop();
});

test("the way home is tried again with growing pauses while its owner says no; what was raised is down", async () => {
  const world = await leased({
    "site:north": (input) => ({
      findings: [{ ok: !input.environment.machines.some((one) => one.proposed.site === "north") }],
    }),
  });
  world.leases.start();
  await world.clock.advance(60_000 + 3_600_000);
  const moves = world.submitted.filter(({ kind }) => kind === "move");
  expect((await world.machine(away.id))?.effective).toMatchObject({
    memoryMib: 256,
    siteId: "south",
  });
  // 2, 4, 8 ... 256, 300, 300: about 18 in an hour, not 1,800.
  expect(moves.length).toBeGreaterThan(10);
  expect(moves.length).toBeLessThan(30);
  world.leases.stop();
});

test("a lease that was over before the start is ended at the start", async () => {
  const world = await leased();
  await world.clock.advance(3_600_000);
  world.leases.start();
  await world.clock.advance(10_000);
  expect(await world.left()).toEqual([]);
  world.leases.stop();
});

test("one that was renewed in time is left alone", async () => {
  const world = await leased();
  world.leases.start();
  await world.clock.advance(30_000);
  await world.store.transaction((journal) =>
    journal.adaptations.put({ ...adaptation, leaseUntilMs: nowMs + 600_000 }),
  );
  await world.clock.advance(300_000);
  expect(world.submitted).toEqual([]);
  world.leases.stop();
});

test("of a machine that is gone only the record is left to end; a link goes back to its rate", async () => {
  const world = await leased();
  const between = {
    ...link("rank-0", "rank-1", 200),
    effective: { rateMbps: 500, adaptationId: "a-2" },
  };
  await world.store.transaction(async (journal) => {
    await journal.objects.remove("machine", away.id);
    await journal.objects.put(between);
    await journal.adaptations.put({
      ...adaptation,
      id: "a-2",
      machineId: undefined,
      linkId: between.id,
      values: { rateMbps: 500 },
    });
  });
  world.leases.start();
  await world.clock.advance(61_000);
  expect(world.submitted.map(({ kind, links }) => [kind, links])[0]).toEqual([
    "release",
    [{ linkId: between.id, rateMbps: 200 }],
  ]);
  expect((await world.left()).map(({ id }) => id)).not.toContain("a-1");
  world.leases.stop();
});

test("a step that says it succeeded and changed nothing is no hot loop", async () => {
  const world = await leased({}, { idle: true });
  world.leases.start();
  await world.clock.advance(60_000 + 60_000);
  expect(world.submitted.length).toBeGreaterThan(4);
  expect(world.submitted.length).toBeLessThan(20);
  world.leases.stop();
});
