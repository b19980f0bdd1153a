/** What may be taken on while a host is silent: asks for less where the machine is, and nothing else. */
import type { PlanAction } from "@drover/shepherd/model/plan";
import type { MachineAsk, Request } from "@drover/shepherd/model/request";
import { onlyLowers } from "@drover/shepherd/planner/lowering";
import { plan } from "@drover/shepherd/planner/plan";
import { describe, expect, test } from "@jest/globals";
import { facts, host, machine, request } from "./fleet.ts";

const rank = machine(
  "rank-0",
  { hostId: "north-1", siteId: "north" },
  { effective: { memoryMib: 512, cpuPercent: 40 } },
);
const silent = facts(
  [host("north-1", "north", {}, { state: "degraded" }), host("south-1", "south")],
  [rank],
);
const drafted = (kind: Request["kind"], ask: Omit<MachineAsk, "machineId">) =>
  plan(request(kind, [{ machineId: rank.id, ...ask }]), silent);

describe("on a silent host", () => {
  test.each<[string, Omit<MachineAsk, "machineId">, readonly PlanAction["kind"][]]>([
    ["less memory", { memoryMib: 400 }, ["set_memory"]],
    ["less of a core", { cpuPercent: 30 }, ["set_cpu_percent"]],
    [
      "less of both, named with its own site",
      { memoryMib: 400, cpuPercent: 30, siteId: "north" },
      ["set_memory", "set_cpu_percent"],
    ],
    ["the same for longer", { memoryMib: 512 }, []],
  ])("%s is planned", (_, ask, kinds) => {
    const made = drafted("resize", ask);
    expect(made).toMatchObject({ kind: "planned", actions: kinds.map((kind) => ({ kind })) });
    expect(made.kind === "planned" && onlyLowers(made.actions)).toBe(kinds.length > 0);
  });

  test.each<[string, Request["kind"], Omit<MachineAsk, "machineId">]>([
    ["more memory", "resize", { memoryMib: 600 }],
    ["less memory and more of a core", "resize", { memoryMib: 400, cpuPercent: 60 }],
    ["less memory elsewhere", "resize", { memoryMib: 400, siteId: "south" }],
    ["a move", "move", { siteId: "south" }],
    ["what a stack declares anew", "update", { memoryMib: 400 }],
  ])("%s is refused", (_, kind, ask) => {
    expect(drafted(kind, ask)).toMatchObject({
      kind: "refused",
      code: "placement.site_unavailable",
    });
  });
});

test("a plan that moves as well takes more than it gives", () => {
  const made = plan(
    request("resize", [{ machineId: rank.id, memoryMib: 400, siteId: "south" }]),
    facts([host("north-1", "north"), host("south-1", "south")], [rank]),
  );
  expect(made.kind === "planned" && onlyLowers(made.actions)).toBe(false);
});
