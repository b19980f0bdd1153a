/** How old facts may be: each decision tells the age of what it rests on, and beyond the bound nothing is given or moved. */
import { explain } from "@drover/shepherd/api/explanation";
import { createMetrics } from "@drover/shepherd/api/metrics";
import type { Request } from "@drover/shepherd/model/request";
import { ageOf } from "@drover/shepherd/policy/ages";
import { describe, expect, test } from "@jest/globals";
import { facts, host, machine, nowMs, request } from "../planner/fleet.ts";
import { type SmallShepherd, smallShepherd } from "./small-shepherd.ts";

const maxAgeMs = 120_000;
const said = (secondsAgo: number) => ({ observedAtMs: nowMs - secondsAgo * 1000 });
const fresh = host("south-1", "south", { memoryMib: 4096 }, said(1));
const old = host("north-1", "north", {}, said(180));
const rank = machine(
  "rank-0",
  { hostId: "north-1", siteId: "north" },
  { effective: { memoryMib: 512, cpuPercent: 40 } },
);

let count = 0;
async function ask(
  shepherd: SmallShepherd,
  kind: Request["kind"],
  of: Omit<Request["machines"][number], "machineId">,
) {
  count += 1;
  const asked = request(kind, [{ machineId: rank.id, ...of }], {
    id: `request-${count}`,
    idempotencyKey: `key-${count}`,
  });
  return await shepherd.clock.until(shepherd.gate.submit(asked));
}
const withOldFacts = () => smallShepherd({ hosts: [old, fresh], machines: [rank], maxAgeMs });

describe("facts older than the bound", () => {
  test.each<[string, Request["kind"], Omit<Request["machines"][number], "machineId">]>([
    ["more memory where it is", "resize", { memoryMib: 600 }],
    ["more of a core where it is", "resize", { cpuPercent: 60 }],
    ["a second vCPU", "resize", { vcpus: 2 }],
    ["a move away, although the destination's facts are fresh", "move", { siteId: "south" }],
    ["a size that needs a move", "resize", { memoryMib: 2000 }],
  ])("deny %s, and nothing is started", async (_, kind, of) => {
    const shepherd = await withOldFacts();
    const { decision, plan, operation } = await ask(shepherd, kind, of);
    expect(decision).toMatchObject({ effect: "deny", code: "facts.stale" });
    expect(decision.message).toContain("at site north is 180 s old");
    expect(decision.message).toContain("nothing older than 120 s");
    expect(decision.input).toEqual({ fact_ages_ms: { "north-1": 180_000 } });
    expect([plan, operation]).toEqual([undefined, undefined]);
  });

  test.each<[string, Request["kind"], Omit<Request["machines"][number], "machineId">]>([
    ["less memory within its lease", "resize", { memoryMib: 400 }],
    ["less of a core within its lease", "resize", { cpuPercent: 30 }],
    ["the same size for longer", "resize", { memoryMib: 512 }],
    ["giving all of it back", "release", {}],
    ["being destroyed", "destroy", {}],
  ])("allow %s", async (_, kind, of) => {
    const shepherd = await withOldFacts();
    const { decision, operation } = await ask(shepherd, kind, of);
    expect(decision).toMatchObject({ effect: "allow", code: "granted" });
    expect(operation).toBeDefined();
  });

  test("stop what would come there, not what stays on fresh ones", async () => {
    const other = machine("rank-1", { hostId: "south-1", siteId: "south" });
    const shepherd = await smallShepherd({
      hosts: [old, fresh],
      machines: [rank, other],
      maxAgeMs,
    });
    const asked = (id: string, of: Partial<Request["machines"][number]>, kind: Request["kind"]) =>
      shepherd.clock.until(
        shepherd.gate.submit(
          request(kind, [{ machineId: other.id, ...of }], { id, idempotencyKey: id }),
        ),
      );
    expect((await asked("a", { siteId: "north" }, "move")).decision.code).toBe("facts.stale");
    expect((await asked("b", { memoryMib: 320 }, "resize")).decision.code).toBe("granted");
  });

  test("are no matter where no bound is set, or none is reached", async () => {
    for (const bound of [undefined, 180_000]) {
      const shepherd = await smallShepherd({
        hosts: [old],
        machines: [rank],
        ...(bound === undefined ? {} : { maxAgeMs: bound }),
      });
      expect((await ask(shepherd, "resize", { memoryMib: 600 })).decision.code).toBe("granted");
    }
  });
});

test("policy sees the age of each host's and each site's words, at the time of the decision", async () => {
  const shepherd = await smallShepherd({ hosts: [old, fresh], machines: [rank] });
  await ask(shepherd, "resize", { memoryMib: 600 });
  const sites = (owner: string) =>
    shepherd.asked
      .find((one) => one.owner === owner)
      ?.input.sites.map(({ id, age_ms, hosts }) => [id, age_ms, hosts.map((one) => one.age_ms)]);
  expect(sites("operator")).toEqual([
    ["north", 180_000, [180_000]],
    ["south", 1_000, [1_000]],
  ]);
  // hosts are not theirs to see, the age of what decides about them is
  expect(sites("owner:alice")).toEqual([
    ["north", 180_000, []],
    ["south", 1_000, []],
  ]);
});

test("explain tells it, for decisions of policy and of code", async () => {
  const shepherd = await withOldFacts();
  const told = async (id: string) =>
    (await shepherd.store.read((journal) => explain(journal, id)))?.text ?? "";
  const denied = await ask(shepherd, "resize", { memoryMib: 600 });
  expect(await told(denied.decision.id)).toContain("known   north-1: said 3.0 min before");
  const released = await ask(shepherd, "release", {});
  expect(await told(released.decision.id)).toContain("known   north-1: said 3.0 min before");
  const free = await smallShepherd({ hosts: [old, fresh], machines: [rank] });
  const judged = await ask(free, "resize", { memoryMib: 600 });
  const text = await free.store.read((journal) => explain(journal, judged.decision.id));
  expect(text?.text).toMatch(/known {3}north\/north-1 up: .* taken, said 3\.0 min before/);
});

test("a clock that was set back makes nothing younger than now", () => {
  const seen = host("north-1", "north", {}, { observedAtMs: nowMs + 5_000 });
  expect(ageOf(seen, facts([seen], []))).toBe(0);
});

test("the age and whether it is too old are numbers for alerts", async () => {
  const shepherd = await withOldFacts();
  const metrics = createMetrics({
    store: shepherd.store,
    clock: shepherd.clock,
    sensing: {
      sites: () => facts(shepherd.hosts, []).sites,
      maxAgeMs,
      answers: () => true,
      foreign: () => [],
      observedMachine: () => undefined,
      refresh: async () => undefined,
    },
  });
  const text = await metrics.text();
  expect(text).toContain('drover_host_facts_age_seconds{site="north",host="north-1"} 180');
  expect(text).toContain('drover_host_facts_stale{site="north",host="north-1"} 1');
  expect(text).toContain('drover_host_facts_stale{site="south",host="south-1"} 0');
});
