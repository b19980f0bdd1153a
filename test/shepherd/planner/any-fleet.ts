/** Random fleets with a request, for properties of the planner and of what policy is shown. */
import type { Facts } from "@drover/shepherd/model/facts";
import type { Request } from "@drover/shepherd/model/request";
import fc from "fast-check";
import { facts, host, machine, nowMs, request } from "./fleet.ts";

const hostIds = ["north-1", "north-2", "south-1", "south-2"];
const siteOf = (hostId: string) => hostId.split("-")[0] ?? "";

/** Fleets of 4 hosts and up to 12 machines, some hosts overfull or silent, and a request for up to 5 of the machines. */
export const anyFleet = fc
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
