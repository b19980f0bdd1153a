/** A host that never answers again, and the person who says so. */
import { openHostMarks } from "@drover/shepherd/operations/host-marks";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { cost, createFleet, type Fleet, moveAction, type Shepherd } from "./fleet.ts";

let fleet: Fleet;
let id: string;
beforeEach(async () => {
  fleet = await createFleet();
  id = await fleet.create(fleet.start(), "rank-0", "north-1");
});
afterEach(() => fleet.store.close());

const word = { by: "olga", reason: "burnt", fencedBy: "power off at the rack" };
const answers = (hostId: string) => fleet.world.data.hosts[hostId]?.reachable === true;
const marks = () =>
  openHostMarks({
    store: fleet.store,
    clock: fleet.clock,
    hostIds: fleet.hosts.map((host) => host.id),
    answers,
  });
const until = (shepherd: Shepherd, operationId: string) =>
  fleet.clock.until(shepherd.operations.wait(operationId, 24 * 3_600_000));

test("a host that answers is not dead, whoever says so", async () => {
  const host = await marks();
  await expect(host.confirmDead({ hostId: "north-1", ...word })).rejects.toMatchObject({
    code: "host.answers",
  });
  await expect(host.confirmDead({ hostId: "north-9", ...word })).rejects.toMatchObject({
    code: "host.unknown",
  });
  expect(host.list()).toEqual([]);
});

test("the word is evidence, survives a restart, and takes the host's machines for lost", async () => {
  fleet.world.setReachable("north-1", false);
  const host = await marks();
  await host.confirmDead({ hostId: "north-1", ...word });
  expect((await marks()).markOf("north-1")).toBe("dead");
  expect((await fleet.machine(id))?.effective).toMatchObject({
    state: "failed",
    reason: "its host north-1 is dead",
  });
  const events = await fleet.store.read((journal) => journal.events.since(0, 1_000));
  expect(events.find(({ kind }) => kind === "host.marked")?.data).toMatchObject({
    hostId: "north-1",
    kind: "dead",
    fencedBy: "power off at the rack",
    active: true,
  });
});

describe("an operation that waits for the dead host", () => {
  /** Dies right after the hand-over: the source is paused, the destination was not told. */
  async function handOver(): Promise<string> {
    const mortal = fleet.start({
      afterStep: (step) =>
        (step.outcome as { phase?: string } | undefined)?.phase === "handed_over",
    });
    const { id: operationId } = await fleet.admit(mortal, "adapt", [
      moveAction(id, "north-1", "south-1"),
    ]);
    mortal.operations.kick();
    while (!mortal.dead()) await fleet.clock.advance(50);
    return operationId;
  }

  test("the destination of a move: nothing happens for hours; after the word the source goes on as the machine", async () => {
    const operationId = await handOver();
    fleet.world.setReachable("south-1", false);
    const host = await marks();
    const shepherd = fleet.start({ isDead: host.isDead });
    void shepherd.operations.recover();
    await fleet.clock.advance(6 * 3_600_000);
    expect((await fleet.machine(id))?.effective.state).toBe("unknown");
    await host.confirmDead({ hostId: "south-1", ...word });
    shepherd.operations.kick();
    expect((await until(shepherd, operationId)).state).toBe("failed");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "north-1",
    });
    expect(fleet.world.violations).toEqual([]);
  });

  test("the source of a move that has switched: the destination stays the machine, and the operation ends", async () => {
    const mortal = fleet.start({
      afterStep: (step) => (step.outcome as { phase?: string } | undefined)?.phase === "switched",
    });
    const { id: operationId } = await fleet.admit(mortal, "adapt", [
      moveAction(id, "north-1", "south-1"),
    ]);
    mortal.operations.kick();
    while (!mortal.dead()) await fleet.clock.advance(50);
    fleet.world.setReachable("north-1", false);
    const host = await marks();
    const shepherd = fleet.start({ isDead: host.isDead });
    void shepherd.operations.recover();
    await fleet.clock.advance(3_600_000);
    const waiting = await fleet.store.read((journal) => journal.operations.get(operationId));
    expect(waiting?.endedAtMs).toBeUndefined();
    await host.confirmDead({ hostId: "north-1", ...word });
    shepherd.operations.kick();
    expect((await until(shepherd, operationId)).state).toBe("succeeded");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "south-1",
    });
    expect(fleet.world.violations).toEqual([]);
  });

  test("a destroy: it waits for hours, and ends after the word", async () => {
    fleet.world.setReachable("north-1", false);
    const host = await marks();
    const shepherd = fleet.start({ isDead: host.isDead });
    const { id: operationId } = await fleet.admit(shepherd, "destroy", [
      { kind: "destroy_machine", machineId: id, hostId: "north-1", cost },
    ]);
    shepherd.operations.kick();
    await fleet.clock.advance(3_600_000);
    expect(await fleet.machine(id)).toBeDefined();
    await host.confirmDead({ hostId: "north-1", ...word });
    shepherd.operations.kick();
    expect((await until(shepherd, operationId)).state).toBe("succeeded");
    expect(await fleet.machine(id)).toBeUndefined();
  });
});
