/** Memory on its way down: what a guest holds it keeps, the record says what was reached, and the operation says why. */
import { type Descent, descend, isHeld } from "@drover/shepherd/operations/shrink";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { createFleet, type Fleet, memoryAction, type Shepherd } from "./fleet.ts";

describe("a guest holds what it has", () => {
  const looks = (...seen: readonly [memoryMib: number, usableMib: number, saidAtS: number][]) =>
    seen.reduce<Descent | undefined>(
      (before, [memoryMib, usableMib, saidAtS]) =>
        descend(before, { memoryMib, usableMib, saidAtMs: saidAtS * 1_000 }),
      undefined,
    );
  test.each<[string, readonly [memoryMib: number, usableMib: number, saidAtS: number][], boolean]>([
    [
      "not while the balloon moves",
      [
        [250, 9, 2],
        [240, 9, 4],
        [230, 9, 6],
        [229, 9, 8],
      ],
      false,
    ],
    [
      "not before it has spoken",
      [
        [224, 14, 2],
        [224, 14, 2],
        [224, 14, 2],
        [224, 14, 2],
      ],
      false,
    ],
    [
      "when it spoke three times and can give less",
      [
        [224, 14, 2],
        [224, 14, 4],
        [224, 14, 6],
        [224, 14, 8],
      ],
      true,
    ],
    [
      "not so soon when it says it could give it all",
      [
        [224, 90, 2],
        [224, 90, 4],
        [224, 90, 6],
        [224, 90, 8],
      ],
      false,
    ],
    [
      "in the end also then",
      [
        [224, 90, 2],
        [224, 90, 4],
        [224, 90, 6],
        [224, 90, 8],
        [224, 90, 10],
        [224, 90, 12],
        [224, 90, 14],
      ],
      true,
    ],
    [
      "not when it moved once more",
      [
        [226, 14, 2],
        [226, 14, 4],
        [226, 14, 6],
        [224, 14, 8],
        [224, 14, 10],
      ],
      false,
    ],
  ])("%s", (_, seen, held) => {
    const descent = looks(...seen);
    expect(descent !== undefined && isHeld(descent, 192)).toBe(held);
  });
});

describe("an operation that takes memory back", () => {
  let fleet: Fleet;
  let shepherd: Shepherd;
  let id: string;
  beforeEach(async () => {
    fleet = await createFleet();
    shepherd = fleet.start();
    id = await fleet.create(shepherd, "rank-0", "north-1");
    await fleet.perform(shepherd, "adapt", [memoryAction(id, 256, 512)]);
    await fleet.clock.advance(5_000);
  });
  afterEach(async () => {
    await shepherd.operations.stop();
    await fleet.store.close();
  });
  const lastStep = async (operationId: string) =>
    (await fleet.store.read((journal) => journal.steps.ofOperation(operationId))).at(-1);

  test("ends when the guest has given it up", async () => {
    const operation = await fleet.perform(shepherd, "release", [memoryAction(id, 512, 256)]);
    expect(operation.state).toBe("succeeded");
    expect(fleet.world.insideGuest(id)?.memoryMib).toBe(256);
    expect(await lastStep(operation.id)).toMatchObject({
      name: "rank-0: memory given up",
      state: "done",
    });
  });

  test("is partial where the guest holds more: what was reached is in force, and no more is taken", async () => {
    fleet.world.holdMemory("north-1", id, 300);
    const operation = await fleet.perform(shepherd, "release", [memoryAction(id, 512, 256)]);
    expect(operation).toMatchObject({
      state: "partial",
      fault: {
        code: "machine.memory_held",
        message: "rank-0 was to have 256 MiB and has 316 MiB: its guest holds 300 MiB in use",
      },
    });
    expect(await lastStep(operation.id)).toMatchObject({
      state: "done",
      outcome: { askedMib: 256, reachedMib: 316, usedMib: 300 },
      fault: { code: "machine.memory_held" },
    });
    const { effective } = (await fleet.machine(id)) ?? {};
    expect(effective).toMatchObject({ state: "running", memoryMib: 316 });
    expect(effective?.settlingFromMib).toBeUndefined();
    // What still departs from the baseline goes on being explained.
    const adaptations = await fleet.store.read((journal) => journal.adaptations.list());
    expect(adaptations.map(({ values }) => values)).toEqual([{ memoryMib: 316 }]);
    // It frees some later: nothing is taken behind its back, and the next ask gets it.
    fleet.world.holdMemory("north-1", id, 0);
    await fleet.clock.advance(60_000);
    expect(fleet.world.insideGuest(id)?.memoryMib).toBe(316);
    const again = await fleet.perform(shepherd, "release", [memoryAction(id, 316, 256)]);
    expect(again.state).toBe("succeeded");
    expect((await fleet.machine(id))?.effective.memoryMib).toBe(256);
    expect(await fleet.store.read((journal) => journal.adaptations.list())).toEqual([]);
  });

  test("leaves a guest that says nothing to settle by itself", async () => {
    fleet.world.holdMemory("north-1", id, 300);
    fleet.world.faults.inject({ call: "guestMemory", effect: "fail" });
    const operation = await fleet.perform(shepherd, "release", [memoryAction(id, 512, 256)]);
    expect((await fleet.machine(id))?.effective).toMatchObject({
      memoryMib: 256,
      settlingFromMib: 512,
    });
    expect(operation.fault?.code).not.toBe("machine.memory_held");
  });

  test("does not wait for a host that falls silent meanwhile", async () => {
    fleet.world.holdMemory("north-1", id, 300);
    const { id: operationId } = await fleet.admit(shepherd, "release", [
      memoryAction(id, 512, 256),
    ]);
    shepherd.operations.kick();
    await fleet.clock.advance(1_000);
    fleet.world.setReachable("north-1", false);
    const ended = await fleet.clock.until(shepherd.operations.wait(operationId, 120_000));
    expect(ended.state).toBe("succeeded");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      memoryMib: 256,
      settlingFromMib: 512,
    });
  });

  test.each([4, 5, 6, 7, 8])(
    "goes on after a death behind write %i, and ends the same",
    async (afterWrites) => {
      fleet.world.holdMemory("north-1", id, 300);
      const { id: operationId } = await fleet.admit(shepherd, "release", [
        memoryAction(id, 512, 256),
      ]);
      await shepherd.operations.stop();
      const mortal = fleet.start({ afterWrites });
      void mortal.operations.recover();
      await fleet.clock.advance(60_000);
      expect(mortal.dead()).toBe(true);
      shepherd = fleet.start();
      await fleet.clock.until(shepherd.operations.recover());
      const ended = await fleet.clock.until(shepherd.operations.wait(operationId, 600_000));
      expect(ended).toMatchObject({ state: "partial", fault: { code: "machine.memory_held" } });
      expect((await fleet.machine(id))?.effective.memoryMib).toBe(316);
      await fleet.clock.advance(1_000);
      expect(fleet.world.insideGuest(id)?.memoryMib).toBe(316);
    },
  );
});
