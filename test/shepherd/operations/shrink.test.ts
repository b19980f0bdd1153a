/** Memory on its way down: what a guest holds it keeps, the record says what was reached, and the operation says why. */
import { type Descent, descend, isHeld, shortBy } from "@drover/shepherd/operations/shrink";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { createFleet, type Fleet, memoryAction, type Shepherd } from "./fleet.ts";

describe("a guest that says what it could give", () => {
  test.each([
    ["all, and some more: it is asked for all", { memoryMib: 320, usableMib: 200 }, undefined],
    ["just enough to live on: it is asked for all", { memoryMib: 320, usableMib: 144 }, undefined],
    [
      "all, but then it has nothing to live on",
      { memoryMib: 320, usableMib: 128 },
      { askedMib: 192, reachedMib: 208, usedMib: 192 },
    ],
    [
      "less: it is asked for less",
      { memoryMib: 320, usableMib: 40 },
      { askedMib: 192, reachedMib: 296, usedMib: 280 },
    ],
    [
      "next to nothing: it keeps what it has",
      { memoryMib: 320, usableMib: 5 },
      { askedMib: 192, reachedMib: 320, usedMib: 315 },
    ],
  ])("%s", (_, said, short) => {
    expect(shortBy(said, 192)).toEqual(short);
  });
});

describe("a balloon that stands still", () => {
  type Row = readonly [atS: number, memoryMib: number, usableMib: number, saidAtS: number];
  const still = (usableMib: number, words: number): readonly Row[] =>
    Array.from({ length: words + 1 }, (_unused, n) => [2 * n, 224, usableMib, 2 * n]);
  test.each<[string, readonly Row[], boolean]>([
    [
      "is not held while it moves",
      [
        [0, 250, 9, 2],
        [2, 240, 9, 4],
        [4, 230, 9, 6],
        [6, 229, 9, 8],
      ],
      false,
    ],
    ["is held when its guest spoke three times and can give less", still(14, 3), true],
    ["is not held after two words", still(14, 2), false],
    ["waits longer when its guest says it could give it all", still(90, 3), false],
    ["is held in the end also then", still(90, 6), true],
    ["begins anew when it moved once more", [...still(14, 2), [6, 223, 14, 8]], false],
    [
      "is not held by a guest that is silent for a while",
      [
        [0, 224, 14, 2],
        [19, 224, 14, 2],
      ],
      false,
    ],
    [
      "is held by one that says nothing any more",
      [
        [0, 224, 14, 2],
        [20, 224, 14, 2],
      ],
      true,
    ],
  ])("%s", (_, rows, held) => {
    let descent: Descent | undefined;
    let answer = false;
    for (const [atS, memoryMib, usableMib, saidAtS] of rows) {
      const atMs = atS * 1_000;
      const said = { memoryMib, usableMib, saidAtMs: saidAtS * 1_000 };
      descent = descend(descent, { atMs, said });
      answer = isHeld(descent, { toMib: 192, atMs });
    }
    expect(answer).toBe(held);
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
  const stepsOf = (operationId: string) =>
    fleet.store.read((journal) => journal.steps.ofOperation(operationId));

  test("ends when the guest has given it up", async () => {
    const operation = await fleet.perform(shepherd, "release", [memoryAction(id, 512, 256)]);
    expect(operation.state).toBe("succeeded");
    expect(fleet.world.insideGuest(id)?.memoryMib).toBe(256);
    expect((await stepsOf(operation.id)).map(({ name, state }) => [name, state])).toEqual([
      ["rank-0: memory 256 MiB", "done"],
      ["rank-0: memory given up", "done"],
    ]);
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
    expect((await stepsOf(operation.id))[0]).toMatchObject({
      state: "done",
      outcome: { askedMib: 256, reachedMib: 316, usedMib: 300 },
      fault: { code: "machine.memory_held" },
    });
    const { effective } = (await fleet.machine(id)) ?? {};
    expect(effective).toMatchObject({ state: "running", memoryMib: 316 });
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

  test("gives back what a guest needs that began to need it on the way down", async () => {
    const { id: operationId } = await fleet.admit(shepherd, "release", [
      memoryAction(id, 512, 256),
    ]);
    shepherd.operations.kick();
    await fleet.clock.advance(150);
    const onItsWayMib = fleet.world.insideGuest(id)?.memoryMib ?? 0;
    expect(onItsWayMib).toBeLessThan(512);
    fleet.world.holdMemory("north-1", id, 400);
    const ended = await fleet.clock.until(shepherd.operations.wait(operationId, 120_000));
    expect(ended).toMatchObject({ state: "partial", fault: { code: "machine.memory_held" } });
    expect((await stepsOf(operationId))[1]).toMatchObject({
      outcome: { askedMib: 256, reachedMib: 416, usedMib: 400 },
    });
    await fleet.clock.advance(1_000);
    expect(fleet.world.insideGuest(id)?.memoryMib).toBe(416);
    expect((await fleet.machine(id))?.effective.memoryMib).toBe(416);
  });

  test("leaves a guest that says nothing to settle by itself", async () => {
    fleet.world.holdMemory("north-1", id, 300);
    fleet.world.faults.inject({ call: "guestMemory", effect: "fail", times: 5 });
    const operation = await fleet.perform(shepherd, "release", [memoryAction(id, 512, 256)]);
    expect(operation.state).toBe("succeeded");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      memoryMib: 256,
      settlingFromMib: 512,
    });
  });

  test("does not wait for a host that falls silent meanwhile", async () => {
    const { id: operationId } = await fleet.admit(shepherd, "release", [
      memoryAction(id, 512, 256),
    ]);
    shepherd.operations.kick();
    await fleet.clock.advance(150);
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
