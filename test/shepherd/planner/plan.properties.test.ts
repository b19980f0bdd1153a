import type { Facts } from "@drover/shepherd/model/facts";
import type { PlanAction } from "@drover/shepherd/model/plan";
import { plan } from "@drover/shepherd/planner/plan";
import { dimensions, roomOf } from "@drover/shepherd/planner/room";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { anyFleet as cases } from "./any-fleet.ts";

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

test("a plan spreads those that stay together over no more places than they may be at, or are at", () => {
  const limits = fc.record({ per: fc.constantFrom("host", "site"), most: fc.constantFrom(1, 2) });
  let moved = 0;
  fc.assert(
    fc.property(cases, limits, ({ known, asked }, { per, most }) => {
      const named = known.machines.filter((_, index) => index % 2 === 0);
      const names = named.map(({ spec }) => spec.name);
      const answer = plan(asked, known, { limits: { together: [{ machines: names, per, most }] } });
      if (answer.kind === "refused") return;
      if (answer.actions.some(({ kind }) => kind === "move_machine")) moved += 1;
      const places = ({ machines }: Facts) =>
        new Set(
          machines
            .filter(({ spec }) => names.includes(spec.name))
            .map(({ effective }) => (per === "host" ? effective.hostId : effective.siteId)),
        ).size;
      expect(places(after(known, answer.actions))).toBeLessThanOrEqual(
        Math.max(most, places(known)),
      );
    }),
    { numRuns: 2_000 },
  );
  expect(moved).toBeGreaterThan(50);
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
