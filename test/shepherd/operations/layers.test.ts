/** How a machine's disk layer travels: which way is chosen, what a retry sends, what a copy that cannot end costs. */
import type { Operation, StepRecord } from "@drover/shepherd/model/plan";
import { expiredLayers, keptLayerMs } from "@drover/shepherd/operations/kept-layers";
import { expect, test } from "@jest/globals";
import { cost, createFleet, type Fleet, moveAction, type Shepherd } from "./fleet.ts";

const mib = 2 ** 20;
const large = { bootWritesBytes: 100 * mib };

/** One machine with a disk layer of that size, and a shepherd. */
async function staged(speeds: NonNullable<Parameters<typeof createFleet>[0]>["speeds"]) {
  const fleet = await createFleet({ speeds });
  const shepherd = fleet.start();
  const id = await fleet.create(shepherd, "rank-0", "north-1");
  return { fleet, shepherd, id };
}

async function outcomeOf(fleet: Fleet, operationId: string, step: string): Promise<unknown> {
  const steps = await fleet.store.read((journal) => journal.steps.ofOperation(operationId));
  return steps.find(({ name }: StepRecord) => name.includes(step))?.outcome;
}

async function move(fleet: Fleet, shepherd: Shepherd, id: string, from: string, to: string) {
  return fleet.perform(shepherd, "adapt", [moveAction(id, from, to)]);
}

test("a small layer goes with the memory, a large one is shipped; which and why is journaled", async () => {
  const small = await staged({ bootWritesBytes: 10 * mib });
  const direct = await move(small.fleet, small.shepherd, small.id, "north-1", "south-1");
  expect(direct.state).toBe("succeeded");
  expect(await outcomeOf(small.fleet, direct.id, "freeze")).toEqual({
    way: "direct",
    why: "a layer of 10 MiB goes with the memory below 64 MiB",
    layerBytes: 10 * mib,
  });

  const { fleet, shepherd, id } = await staged(large);
  const shipped = await move(fleet, shepherd, id, "north-1", "south-1");
  expect(shipped.state).toBe("succeeded");
  expect(await outcomeOf(fleet, shipped.id, "freeze")).toMatchObject({ way: "layered" });
  expect(await outcomeOf(fleet, shipped.id, "disk on")).toMatchObject({
    sentBytes: expect.any(Number),
    presentBytes: 0,
  });
  // Joined again: one layer, where the machine is, and none where it was.
  const { volumes } = fleet.world.data.hosts["south-1"] ?? { volumes: {} };
  expect(Object.keys(volumes).filter((name) => name.includes("rank-0"))).toEqual([
    "drover-machine-rank-0.qcow2",
  ]);
  expect(fleet.world.violations).toEqual([]);
  await small.fleet.store.close();
  await fleet.store.close();
});

test("a move that fails after its layer was shipped leaves the source whole; the retry sends at most a tenth", async () => {
  const { fleet, shepherd, id } = await staged(large);
  fleet.world.faults.inject({ call: "perform", effect: "fail" });
  const failed = await move(fleet, shepherd, id, "north-1", "south-1");
  expect(failed.state).toBe("failed");
  const source = fleet.world.data.hosts["north-1"];
  expect(source?.domains[id]).toMatchObject({ state: "running", top: undefined });
  expect(Object.keys(source?.volumes ?? {}).filter((name) => name.includes(".top"))).toEqual([]);
  // Not there for anybody who looks, and not lost either.
  const { hosts } = shepherd.connection;
  const { volumes } = hosts.get("south-1");
  expect(await fleet.clock.until(volumes.find("drover-machine-rank-0.qcow2"))).toBeUndefined();
  expect(await fleet.clock.until(volumes.listPartial())).toMatchObject([
    { name: "drover-machine-rank-0.qcow2" },
  ]);

  const first = (await outcomeOf(fleet, failed.id, "disk on")) as { sentBytes: number };
  const retried = await move(fleet, shepherd, id, "north-1", "south-1");
  expect(retried.state).toBe("succeeded");
  const second = (await outcomeOf(fleet, retried.id, "disk on")) as { sentBytes: number };
  expect(await outcomeOf(fleet, retried.id, "freeze")).toMatchObject({
    why: "the destination has kept blocks of an earlier move",
  });
  expect(second.sentBytes).toBeLessThanOrEqual(first.sentBytes / 10);
  expect(fleet.world.violations).toEqual([]);
  await fleet.store.close();
});

test("what nobody came back for is removed a day later, and not before", async () => {
  const { fleet, shepherd, id } = await staged(large);
  fleet.world.faults.inject({ call: "perform", effect: "fail" });
  await move(fleet, shepherd, id, "north-1", "south-1");
  const { volumes } = shepherd.connection.hosts.get("south-1");
  const expired = async () =>
    expiredLayers(await fleet.clock.until(volumes.listPartial()), {
      nowMs: fleet.clock.nowMs(),
      busy: new Set(),
    });
  expect(await expired()).toEqual([]);
  const item = {
    kind: "volume" as const,
    id: "drover-machine-rank-0.qcow2",
    because: "expired" as const,
    machineId: id,
  };
  const sweep = (): Promise<Operation> =>
    fleet.perform(shepherd, "repair", [
      { kind: "sweep_host", hostId: "south-1", litter: [item], cost },
    ]);
  expect(await sweep()).toMatchObject({ state: "partial", fault: { code: "sweep.not_litter" } });
  await fleet.clock.advance(keptLayerMs);
  expect(await expired()).toEqual([item]);
  expect(await sweep()).toMatchObject({ state: "succeeded" });
  expect(await fleet.clock.until(volumes.listPartial())).toEqual([]);
  // Image parts that are on their way, and machines at work, are left alone.
  const kept = { allocatedBytes: 1, touchedAtMs: 0 };
  const part = { ...kept, name: `drover-${"a".repeat(64)}.qcow2` };
  const atWork = { ...kept, name: "drover-machine-rank-1.qcow2" };
  const at = { nowMs: keptLayerMs, busy: new Set(["machine-rank-1"]) };
  expect(expiredLayers([part, atWork], at)).toEqual([]);
  await fleet.store.close();
});

test("a shipment that is cut goes on where it was", async () => {
  const { fleet, shepherd, id } = await staged(large);
  fleet.world.faults.inject({ call: "volumes.writeRange", nth: 3, effect: "fail" });
  const failed = await move(fleet, shepherd, id, "north-1", "south-1");
  expect(failed.state).toBe("failed");
  const retried = await move(fleet, shepherd, id, "north-1", "south-1");
  const outcome = (await outcomeOf(fleet, retried.id, "disk on")) as Record<string, number>;
  expect(retried.state).toBe("succeeded");
  expect(outcome["presentBytes"]).toBeGreaterThan(30 * mib);
  expect(fleet.world.violations).toEqual([]);
  await fleet.store.close();
});

test("a guest that dirties faster than the line carries is given up in time, untouched, with the numbers", async () => {
  const { fleet, shepherd, id } = await staged({ dirtyMibPerS: 500 });
  const before = fleet.world.insideGuest(id);
  const failed = await move(fleet, shepherd, id, "north-1", "south-1");
  expect(failed).toMatchObject({
    state: "failed",
    fault: {
      code: "migration.hopeless",
      details: { tried: ["downtime", "throttle"], why: expect.stringContaining("500 MiB/s") },
    },
  });
  expect(fleet.world.insideGuest(id)).toMatchObject({
    hostId: "north-1",
    bootId: before?.bootId,
  });
  expect(await fleet.litter()).toEqual([]);
  expect(fleet.world.violations).toEqual([]);
  await fleet.store.close();
});
