import type { MachineRecord } from "@drover/shepherd/model/objects";
import type { Plan, PlanAction } from "@drover/shepherd/model/plan";
import { reservationsOf } from "@drover/shepherd/operations/reservations";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  cost,
  cpuAction,
  createAction,
  createFleet,
  type Fleet,
  memoryAction,
  moveAction,
} from "./fleet.ts";

let fleet: Fleet;
let placed: MachineRecord;
let drafted: MachineRecord;
beforeAll(async () => {
  fleet = await createFleet();
  const shepherd = fleet.start();
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.addMachine("rank-1");
  const [first, second] = [await fleet.machine(id), await fleet.machine("machine-rank-1")];
  if (first === undefined || second === undefined) throw new Error("no machines");
  placed = first;
  drafted = second;
});
afterAll(() => fleet.store.close());

test.each<[string, readonly PlanAction[], readonly string[]]>([
  [
    "a creation holds its sizes where it goes",
    [createAction("machine-rank-1", "north-2")],
    ["machine-rank-1 north-2 20 % 256 MiB"],
  ],
  [
    "growth holds the most it will take",
    [memoryAction("machine-rank-0", 256, 512), cpuAction("machine-rank-0", 20, 60)],
    ["machine-rank-0 north-1 60 % 512 MiB"],
  ],
  [
    "shrinking holds what it still has",
    [memoryAction("machine-rank-0", 256, 192)],
    ["machine-rank-0 north-1 20 % 256 MiB"],
  ],
  [
    "a move holds both hosts, with what it grows to there",
    [moveAction("machine-rank-0", "north-1", "south-1"), memoryAction("machine-rank-0", 256, 512)],
    ["machine-rank-0 north-1 20 % 512 MiB", "machine-rank-0 south-1 20 % 512 MiB"],
  ],
  [
    "a destroy and a repair hold nothing",
    [
      { kind: "destroy_machine", machineId: "machine-rank-0", hostId: "north-1", cost },
      { kind: "apply_network", hostIds: ["north-1"], cost },
    ],
    [],
  ],
])("%s", (_sentence, actions, held) => {
  const plan: Plan = {
    id: "p",
    digest: "d",
    requestId: "r",
    environmentId: "ring",
    actions,
    cost,
    explanation: { chosen: [], runnersUp: [], refusedBy: {} },
    createdAtMs: 0,
  };
  const rows = reservationsOf(plan, {
    operationId: "o",
    machines: new Map([placed, drafted].map((machine) => [machine.id, machine])),
    diskBytes: () => 7,
    nowMs: 0,
  });
  expect(
    rows.map((row) => `${row.machineId} ${row.hostId} ${row.cpuPercent} % ${row.memoryMib} MiB`),
  ).toEqual(held);
  expect(rows.every((row) => row.diskBytes === 7 && row.operationId === "o")).toBe(true);
});
