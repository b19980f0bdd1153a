import type { Facts } from "@drover/shepherd/model/facts";
import type { PlanAction } from "@drover/shepherd/model/plan";
import type { Request } from "@drover/shepherd/model/request";
import { plan } from "@drover/shepherd/planner/plan";
import { dimensions, roomOf } from "@drover/shepherd/planner/room";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { facts, host, machine, nowMs, request } from "./fleet.ts";

const hostIds = ["north-1", "north-2", "south-1", "south-2"];
const siteOf = (hostId: string) => hostId.split("-")[0] ?? "";

/** Fleets of 4 hosts and up to 12 machines, some hosts overfull or silent, and a request for up to 5 of the machines. */
const cases = fc
  .record({
    lends: fc.array(
      fc.record({
        memoryMib: fc.integer({ min: 512, max: 6000 }),
        cpuPercent: fc.integer({ min: 100, max: 600 }),
        freeMemoryMib: fc.option(fc.integer({ min: 0, max: 6000 }), { nil: undefined, freq: 2 }),
        foreignMib: fc.integer({ min: 0, max: 1024 }),
        up: fc.integer({ min: 0, max: 7 }).map((n) => n > 0),
      }),
      { minLength: 4, maxLength: 4 },
    ),
    machines: fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: 3 }),
        memoryMib: fc.integer({ min: 64, max: 1024 }),
        cpuPercent: fc.integer({ min: 5, max: 100 }),
      }),
      { minLength: 1, maxLength: 12 },
    ),
    reserved: fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: 3 }),
        memoryMib: fc.integer({ min: 1, max: 900 }),
      }),
      { maxLength: 3 },
    ),
    asks: fc.array(
      fc.record({
        memoryMib: fc.option(fc.integer({ min: 64, max: 2000 }), { nil: undefined }),
        cpuPercent: fc.option(fc.integer({ min: 5, max: 300 }), { nil: undefined }),
        siteId: fc.option(fc.constantFrom("north", "south"), { nil: undefined }),
      }),
      { minLength: 1, maxLength: 5 },
    ),
  })
  .map(({ lends, machines, reserved, asks }) => {
    const hosts = hostIds.map((id, n) => {
      const lend = lends[n];
      if (lend === undefined) throw new Error("four lends");
      return host(id, siteOf(id), lend, {
        state: lend.up ? "up" : "degraded",
        freeMemoryMib: lend.freeMemoryMib,
        foreign: { count: 1, cpuPercent: 0, memoryMib: lend.foreignMib },
      });
    });
    const records = machines.map(({ at, memoryMib, cpuPercent }, n) => {
      const hostId = hostIds[at] ?? "";
      return machine(
        `rank-${n}`,
        { hostId, siteId: siteOf(hostId) },
        { baseline: { memoryMib, cpuPercent } },
      );
    });
    const known: Facts = facts(hosts, records, {
      reservations: reserved.map(({ at, memoryMib }, n) => ({
        operationId: `o-${n}`,
        hostId: hostIds[at] ?? "",
        machineId: `m-elsewhere-${n}`,
        cpuPercent: 0,
        memoryMib,
        diskBytes: 0,
        expiresAtMs: nowMs + 1,
      })),
    });
    const asked: Request = request(
      "resize",
      asks.flatMap((ask, n) => {
        const record = records[n];
        return record === undefined ? [] : [{ machineId: record.id, ...defined(ask) }];
      }),
    );
    return { known, asked };
  });

function defined<T extends object>(ask: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(ask).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** The facts after the plan ran: what the planner promised, applied to the records by other code than its own. */
function after(known: Facts, actions: readonly PlanAction[]): Facts {
  const machines = known.machines.map((record) => {
    let effective = record.effective;
    for (const action of actions) {
      if (!("machineId" in action) || action.machineId !== record.id) continue;
      if (action.kind === "move_machine")
        effective = { ...effective, hostId: action.toHostId, siteId: action.toSiteId };
      if (action.kind === "set_memory") effective = { ...effective, memoryMib: action.toMib };
      if (action.kind === "set_cpu_percent") effective = { ...effective, cpuPercent: action.to };
      if (action.kind === "set_vcpus") effective = { ...effective, vcpus: action.to };
    }
    return { ...record, effective };
  });
  return { ...known, machines };
}

/** By how much each host holds more than it lends, apart from what it says is free (that follows the machines). */
function overfull(known: Facts): Record<string, number> {
  const rooms = roomOf(known);
  return Object.fromEntries(
    [...rooms].flatMap(([id, { capacity, takenBy }]) =>
      dimensions.map((dimension) => {
        const taken = [...takenBy.values()].reduce((total, one) => total + one[dimension], 0);
        return [`${id} ${dimension}`, Math.max(0, taken - capacity[dimension])];
      }),
    ),
  );
}

test("a plan never overfills a host, and never makes an overfull one worse", () => {
  let planned = 0;
  fc.assert(
    fc.property(cases, ({ known, asked }) => {
      const answer = plan(asked, known);
      if (answer.kind === "refused") return;
      planned += 1;
      const before = overfull(known);
      const then = overfull(after(known, answer.actions));
      for (const [key, excess] of Object.entries(then)) {
        expect({ key, excess }).toEqual({ key, excess: Math.min(excess, before[key] ?? 0) });
      }
    }),
    { numRuns: 2_000 },
  );
  expect(planned).toBeGreaterThan(100);
});

test("the same facts give the same plan, whatever the order of the asks and of the hosts", () => {
  fc.assert(
    fc.property(cases, ({ known, asked }) => {
      const turned = {
        ...known,
        sites: known.sites
          .toReversed()
          .map((site) => ({ ...site, hosts: site.hosts.toReversed() })),
        machines: known.machines.toReversed(),
      };
      const one = plan(asked, known);
      const two = plan({ ...asked, machines: asked.machines.toReversed() }, turned);
      expect(one.kind === "planned" ? one.actions : one).toEqual(
        two.kind === "planned" ? two.actions : two,
      );
    }),
    { numRuns: 500 },
  );
});

test("all or nothing: what was asked for is exactly what the plan leaves", () => {
  fc.assert(
    fc.property(cases, ({ known, asked }) => {
      const answer = plan(asked, known);
      if (answer.kind === "refused") {
        expect(Object.keys(answer.refusedBy).length).toBeGreaterThan(0);
        return;
      }
      const then = after(known, answer.actions);
      for (const ask of asked.machines) {
        const record = then.machines.find(({ id }) => id === ask.machineId);
        const { machineId: _, ...wanted } = ask;
        for (const [key, value] of Object.entries(wanted)) {
          if (value !== undefined) expect(record?.effective).toMatchObject({ [key]: value });
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("no plan moves a machine to a silent host, outside its sites, or twice", () => {
  fc.assert(
    fc.property(cases, ({ known, asked }) => {
      const answer = plan(asked, known);
      if (answer.kind === "refused") return;
      const moves = answer.actions.filter((action) => action.kind === "move_machine");
      expect(new Set(moves.map(({ machineId }) => machineId)).size).toBe(moves.length);
      const up = known.sites.flatMap(({ hosts }) =>
        hosts.filter(({ state }) => state === "up").map(({ id }) => id),
      );
      for (const move of moves) expect(up).toContain(move.toHostId);
    }),
    { numRuns: 500 },
  );
});
