import type { Adaptation } from "@drover/shepherd/model/request";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  cost,
  cpuAction,
  createFleet,
  type Fleet,
  memoryAction,
  moveAction,
  type Shepherd,
  sizing,
} from "./fleet.ts";

let fleet: Fleet;
let shepherd: Shepherd;
beforeEach(async () => {
  fleet = await createFleet();
  shepherd = fleet.start();
});
afterEach(() => fleet.store.close());

const active = (): Promise<readonly Adaptation[]> =>
  fleet.store.read((journal) => journal.adaptations.list());

test("a second grant replaces the first: one adaptation a machine, with the new terms", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.perform(shepherd, "adapt", [cpuAction(id, 20, 60)], {
    leaseMs: 1_000_000,
    reason: "a",
  });
  const [first] = await active();
  await fleet.perform(shepherd, "adapt", [memoryAction(id, 256, 512)], { reason: "b" });
  const [second, ...others] = await active();
  expect(others).toEqual([]);
  expect(second).toMatchObject({ values: { cpuPercent: 60, memoryMib: 512 }, reason: "b" });
  expect(second?.leaseUntilMs).toBeUndefined();
  expect(second?.id).not.toBe(first?.id);
});

test("a move without a lease keeps the earlier end of what was granted; one with a lease has its own", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.perform(shepherd, "adapt", [cpuAction(id, 20, 60)], { leaseMs: 1_000_000 });
  const [first] = await active();
  await fleet.perform(shepherd, "adapt", [moveAction(id, "north-1", "south-1")], {});
  const [moved] = await active();
  expect(moved?.values).toMatchObject({ cpuPercent: 60, siteId: "south" });
  expect(moved?.leaseUntilMs).toBe(first?.leaseUntilMs);
  await fleet.perform(shepherd, "adapt", [moveAction(id, "south-1", "north-2")], {
    leaseMs: 9_000_000,
  });
  const [again] = await active();
  expect(again?.leaseUntilMs).toBeGreaterThan(first?.leaseUntilMs ?? 0);
});

test("a decision's limit shortens the lease that was asked for", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.store.transaction((journal) =>
    journal.decisions.add({
      id: "decision",
      requestId: "r",
      environmentId: "ring",
      point: "request",
      effect: "allow",
      code: "granted",
      message: "",
      findings: [],
      obligations: [],
      limits: { ttlMs: 60_000 },
      consents: [],
      input: null,
      decidedAtMs: 0,
    }),
  );
  await fleet.perform(shepherd, "adapt", [cpuAction(id, 20, 60)], { leaseMs: 3_600_000 });
  const [adaptation] = await active();
  expect(adaptation?.leaseUntilMs).toBe((adaptation?.createdAtMs ?? 0) + 60_000);
});

test("giving back a part keeps the terms of what is left", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.perform(shepherd, "adapt", [memoryAction(id, 256, 512), cpuAction(id, 20, 60)], {
    leaseMs: 3_600_000,
  });
  const [before] = await active();
  await fleet.perform(shepherd, "release", [memoryAction(id, 512, 256)]);
  expect(await active()).toEqual([{ ...before, values: { cpuPercent: 60 } }]);
});

test("a repair leaves no adaptation, whatever it repairs", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.perform(shepherd, "repair", [memoryAction(id, 300, 256)]);
  expect(await active()).toEqual([]);
});

test("a failed growth leaves the adaptation that was there", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.perform(shepherd, "adapt", [cpuAction(id, 20, 60)]);
  const before = await active();
  fleet.world.faults.inject({ call: "setMemory", effect: "fail" });
  const operation = await fleet.perform(shepherd, "adapt", [memoryAction(id, 256, 512)]);
  expect(operation.state).toBe("failed");
  expect(await active()).toEqual(before);
});

test("a machine that is declared anew starts from its predecessor's adaptation, under the same id", async () => {
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  await fleet.perform(shepherd, "adapt", [cpuAction(id, 20, 60)], { leaseMs: 3_600_000 });
  const [granted] = await active();
  await fleet.perform(shepherd, "destroy", [
    { kind: "destroy_machine", machineId: id, hostId: "north-1", cost },
  ]);
  expect(await active()).toEqual([granted]);

  const startFrom = {
    ...sizing,
    cpuPercent: 60,
    siteId: "north",
    adaptationId: granted?.id ?? "",
  };
  const again = await fleet.addMachine("rank-7", { name: "rank-0", startFrom });
  const operation = await fleet.perform(shepherd, "create", [
    {
      kind: "create_machine",
      machineId: again,
      hostId: "north-1",
      siteId: "north",
      sizing: { ...sizing, cpuPercent: 60 },
      cost,
    },
  ]);
  expect(operation.state).toBe("succeeded");
  expect(await active()).toEqual([{ ...granted, machineId: again, values: { cpuPercent: 60 } }]);
  expect((await fleet.machine(again))?.effective).toMatchObject({
    cpuPercent: 60,
    adaptationId: granted?.id,
    leaseUntilMs: granted?.leaseUntilMs,
  });
});
