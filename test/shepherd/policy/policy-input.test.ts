import type { Facts } from "@drover/shepherd/model/facts";
import type { Finding } from "@drover/shepherd/model/request";
import { inputProblems } from "@drover/shepherd/opa/door";
import { plan, sealPlan } from "@drover/shepherd/planner/plan";
import { explainDenial } from "@drover/shepherd/policy/disclose";
import { policyInput } from "@drover/shepherd/policy/policy-input";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { anyFleet } from "../planner/any-fleet.ts";
import { environment, facts, host, machine, nowMs, request } from "../planner/fleet.ts";

const ring = environment();

test("whatever the fleet, policy is shown what the contract promises, at both points", () => {
  let plans = 0;
  fc.assert(
    fc.property(anyFleet, ({ known, asked }) => {
      const before = policyInput(asked, known, ring);
      expect(inputProblems("decision", before)).toEqual([]);
      const drafted = plan(asked, known);
      if (drafted.kind === "refused") return;
      plans += 1;
      const sealed = sealPlan(drafted, { id: "p", request: asked, createdAtMs: nowMs });
      const after = policyInput(asked, known, ring, sealed);
      expect(inputProblems("plan_check", after)).toEqual([]);
      // A rule that sums must see the same machines and hosts at both points.
      expect(after.environment.machines.map(({ name }) => name)).toEqual(
        before.environment.machines.map(({ name }) => name),
      );
      expect(after.sites).toEqual(before.sites);
    }),
    { numRuns: 500 },
  );
  expect(plans).toBeGreaterThan(50);
});

test("a host's numbers add up: what is used and reserved is what the planner counts as taken", () => {
  const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
  const known: Facts = facts(
    [
      host(
        "north-1",
        "north",
        {},
        { foreign: { count: 1, cpuPercent: 30, memoryMib: 100 }, freeMemoryMib: 500 },
      ),
    ],
    [rank],
    {
      reservations: [
        {
          operationId: "o",
          hostId: "north-1",
          machineId: rank.id,
          cpuPercent: 60,
          memoryMib: 400,
          diskBytes: 2 ** 30,
          expiresAtMs: nowMs + 1,
        },
      ],
    },
  );
  expect(policyInput(request("release", []), known, ring).sites[0]?.hosts[0]).toEqual({
    id: "north-1",
    state: "up",
    age_ms: 0,
    lend: { cpu_percent: 200, memory_mib: 1024, disk_gib: 50 },
    used: { cpu_percent: 50, memory_mib: 356, disk_gib: 1 },
    reserved: { cpu_percent: 40, memory_mib: 144, disk_gib: 0 },
    free: { memory_mib: 500, disk_gib: 0 },
  });
});

test("a machine that waits for its creation counts nowhere, one under creation where its room is held", () => {
  const [waiting, under] = ["a", "b"].map((name) => machine(name, { hostId: "", siteId: "north" }));
  if (waiting === undefined || under === undefined) throw new Error("two machines");
  const known = facts([host("north-1", "north")], [waiting, under], {
    reservations: [
      {
        operationId: "o",
        hostId: "north-1",
        machineId: under.id,
        cpuPercent: 20,
        memoryMib: 256,
        diskBytes: 2 ** 30,
        expiresAtMs: nowMs + 1,
      },
    ],
  });
  const { machines } = policyInput(request("release", []), known, ring).environment;
  expect(machines.map(({ site, host: at, memory_mib }) => [site, at, memory_mib])).toEqual([
    ["", "", 0],
    ["north", "north-1", 256],
  ]);
});

const finding = fc.record({
  rule: fc.constantFrom("host_headroom", "envelope", "growth_factor"),
  id: fc.constant("one"),
  level: fc.constantFrom("deny" as const, "approve" as const, "warn" as const),
  ok: fc.boolean(),
  msg: fc.constantFrom("secret north-1 has 4711 left", "60 is the most"),
  params: fc.constant({}),
  owner: fc.constantFrom("operator", "owner:alice", "site:north"),
  disclose: fc.constantFrom("owner" as const, "operator" as const),
  fix: fc.constantFrom({ memory_mib: 4711 }, { cpu_percent: 60 }),
});

test("a guest never reads what a rule keeps for operators, in no combination", () => {
  const guest = { type: "guest", name: "rank-0", machineId: "m", roles: ["operator"] } as const;
  fc.assert(
    fc.property(fc.array(finding, { maxLength: 6 }), (findings: Finding[]) => {
      const kept = findings.map((one) =>
        one.msg.startsWith("secret") || one.fix?.["memory_mib"] !== undefined
          ? { ...one, disclose: "operator" as const }
          : one,
      );
      const told = JSON.stringify(explainDenial({ subject: guest }, { findings: kept }));
      expect(told).not.toMatch(/4711|secret|north-1/);
    }),
  );
});
