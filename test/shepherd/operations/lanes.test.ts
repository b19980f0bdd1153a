import { expect, test } from "@jest/globals";
import { createFleet, moveAction } from "./fleet.ts";

/** Several machines of one operation, each a lane: moved in waves, all or none while none has switched, and reported after. */
async function four() {
  const fleet = await createFleet();
  const shepherd = fleet.start();
  const ids: string[] = [];
  for (const name of ["rank-0", "rank-1", "rank-2", "rank-3"])
    ids.push(await fleet.create(shepherd, name, "north-1"));
  const moves = ids.map((id, index) => ({
    ...moveAction(id, "north-1", "south-1"),
    wave: Math.floor(index / 2),
  }));
  const places = async () =>
    Promise.all(ids.map(async (id) => (await fleet.machine(id))?.effective.hostId));
  return { fleet, shepherd, ids, moves, places };
}

test("all are prepared before the first one switches, and a wave switches at once", async () => {
  const { fleet, shepherd, moves, places } = await four();
  const operation = await fleet.perform(shepherd, "adapt", moves);
  expect(operation.state).toBe("succeeded");
  expect(await places()).toEqual(["south-1", "south-1", "south-1", "south-1"]);
  const steps = await fleet.store.read((journal) => journal.steps.ofOperation(operation.id));
  const named = (part: string) => steps.filter(({ name }) => name.includes(part));
  const begun = (part: string) => named(part).map(({ startedAtMs = 0 }) => startedAtMs);
  const ended = (part: string) => named(part).map(({ endedAtMs = 0 }) => endedAtMs);
  expect(Math.max(...ended("network on south-1"))).toBeLessThanOrEqual(
    Math.min(...begun("copy and switch")),
  );
  const [first = 0, second = 0, third = 0] = begun("copy and switch");
  const [firstEnd = 0, secondEnd = 0] = ended("copy and switch");
  expect(Math.max(first, second)).toBeLessThan(Math.min(firstEnd, secondEnd));
  expect(third).toBeGreaterThanOrEqual(Math.max(firstEnd, secondEnd));
  expect(await fleet.litter()).toEqual([]);
  expect(await fleet.networkDifferences()).toEqual([]);
  expect(fleet.world.data.violations).toEqual([]);
});

test("one that cannot be copied keeps all of them where they are, while none has left", async () => {
  const { fleet, shepherd, moves, places } = await four();
  fleet.world.faults.inject({ call: "perform", effect: "fail" });
  const operation = await fleet.perform(shepherd, "adapt", moves);
  expect(operation.state).toBe("failed");
  expect(operation.fault?.code).toBe("libvirt.operation_failed");
  expect(await places()).toEqual(["north-1", "north-1", "north-1", "north-1"]);
  expect(await fleet.litter()).toEqual([]);
  expect(fleet.world.data.violations).toEqual([]);
});

test("one that fails after others have left stays, the rest goes on, and it is reported", async () => {
  const { fleet, shepherd, moves, places } = await four();
  fleet.world.faults.inject({ call: "perform", nth: 3, effect: "fail" });
  const operation = await fleet.perform(shepherd, "adapt", moves);
  expect(operation.state).toBe("partial");
  const where = await places();
  expect(where.slice(0, 2)).toEqual(["south-1", "south-1"]);
  expect(new Set(where.slice(2))).toEqual(new Set(["north-1", "south-1"]));
  expect(await fleet.litter()).toEqual([]);
  expect(await fleet.networkDifferences()).toEqual([]);
  expect(fleet.world.data.violations).toEqual([]);
});

test("a shepherd that dies in the middle of a wave leaves it to the next, which ends it whole", async () => {
  const { fleet, moves, places } = await four();
  let handedOver = 0;
  const mortal = fleet.start({
    afterStep: (step) => {
      if ((step.outcome as { phase?: string } | undefined)?.phase === "switched") handedOver += 1;
      return handedOver === 3;
    },
  });
  const order = await fleet.admit(mortal, "adapt", moves);
  mortal.operations.kick();
  while (!mortal.dead()) await fleet.clock.advance(50);
  const next = fleet.start();
  await fleet.clock.until(next.operations.recover());
  const operation = await fleet.clock.until(next.operations.wait(order.id, 3_600_000));
  expect(operation.state).toBe("succeeded");
  expect(await places()).toEqual(["south-1", "south-1", "south-1", "south-1"]);
  expect(await fleet.litter()).toEqual([]);
  expect(fleet.world.data.violations).toEqual([]);
});

test("a cancel in the middle leaves whole machines: those over are over, the others stay", async () => {
  const { fleet, shepherd, ids, moves, places } = await four();
  const order = await fleet.admit(shepherd, "adapt", moves);
  shepherd.operations.kick();
  while ((await fleet.machine(ids[0] ?? ""))?.effective.hostId !== "south-1")
    await fleet.clock.advance(20);
  await shepherd.operations.cancel(order.id);
  const operation = await fleet.clock.until(shepherd.operations.wait(order.id, 24 * 3_600_000));
  expect(operation.state).toBe("partial");
  const where = await places();
  expect(where[0]).toBe("south-1");
  expect(where[3]).toBe("north-1");
  expect(await fleet.litter()).toEqual([]);
  expect(fleet.world.data.violations).toEqual([]);
});
