import type { Operation, OperationKind, PlanAction } from "@drover/shepherd/model/plan";
import { createRandom } from "@drover/shepherd/simulated/random";
import { expect, test } from "@jest/globals";
import {
  cost,
  cpuAction,
  createAction,
  createFleet,
  type Fleet,
  memoryAction,
  moveAction,
  type Shepherd,
} from "../shepherd/operations/fleet.ts";

/** Seeds of one run of the test command; a campaign takes more by SEEDS=1000. A seed reproduces its run. */
const seeds = Array.from({ length: Number(process.env["SEEDS"] ?? 12) }, (_, index) => index + 1);
const names = ["rank-0", "rank-1", "rank-2", "rank-3"];
const hostIds = ["north-1", "north-2", "south-1"];
const ordersPerRun = 14;

/** Orders come at random times; hosts fall silent, calls fail or hang, shepherds die; then everything heals. */
async function play(seed: number): Promise<Record<string, number>> {
  const random = createRandom(seed);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[Math.floor(random() * items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  };
  const fleet = await createFleet({ seed });
  const { clock, world } = fleet;
  const connections: (() => void)[] = [];
  const begin = (): Shepherd => {
    const afterWrites = 20 + Math.floor(random() * 120);
    const shepherd = fleet.start({ afterWrites });
    connections.push(() => shepherd.connection.cut());
    return shepherd;
  };
  let shepherd = begin();
  let deaths = 0;
  const succeed = async () => {
    while (shepherd.dead()) {
      deaths += 1;
      shepherd = begin();
      void shepherd.operations.recover();
      await clock.advance(10);
    }
  };

  for (let n = 0; n < ordersPerRun; n += 1) {
    await succeed();
    const order = await nextOrder(fleet, pick);
    if (order !== undefined) {
      // A shepherd that dies in the admission has admitted, or not; both are fine.
      const admitted = fleet.admit(shepherd, order.kind, order.actions).catch((error: unknown) => {
        if ((error as { code?: string }).code !== "operation.machine_stuck") throw error;
      });
      await Promise.race([admitted, clock.sleep(1_000), clock.advance(50)]);
      shepherd.operations.kick();
    }
    const trouble = random();
    if (trouble < 0.25) {
      world.faults.inject({
        nth: 1 + Math.floor(random() * 12),
        effect: pick(["fail", "fail_after", "hang", "hang_after"] as const),
      });
    } else if (trouble < 0.4) {
      const hostId = pick(hostIds);
      world.setReachable(hostId, false);
      clock.at(clock.nowMs() + 500 + random() * 60_000, () => world.setReachable(hostId, true));
    }
    await clock.advance(Math.floor(random() * 3_000));
  }

  world.faults.clear();
  await clock.advance(61_000);
  for (const hostId of hostIds) world.setReachable(hostId, true);
  if (!shepherd.dead()) shepherd.connection.cut();
  const last = fleet.start();
  await clock.until(last.operations.recover());
  const open = await fleet.store.read((journal) => journal.operations.list({}));
  const ended: Operation[] = [];
  for (const { id } of open)
    ended.push(await clock.until(last.operations.wait(id, 24 * 3_600_000)));
  // Carriers that were silent then are what the shepherd repairs when they come back.
  await fleet.perform(last, "repair", [{ kind: "apply_network", hostIds, cost }]);
  await expectSound(fleet, ended);
  await fleet.store.close();
  const states: Record<string, number> = { deaths };
  for (const { state } of ended) states[state] = (states[state] ?? 0) + 1;
  return states;
}

/** Something that a planner might have ordered from the journal as it stands. */
async function nextOrder(
  fleet: Fleet,
  pick: <T>(items: readonly T[]) => T,
): Promise<{ kind: OperationKind; actions: readonly PlanAction[] } | undefined> {
  const id = `machine-${pick(names)}`;
  const record = await fleet.machine(id);
  if (record === undefined || record.effective.hostId === "") {
    if (record === undefined) await fleet.addMachine(id.slice("machine-".length));
    return { kind: "create", actions: [createAction(id, pick(hostIds))] };
  }
  const { hostId, memoryMib, cpuPercent } = record.effective;
  switch (pick(["resize", "move", "move", "destroy"])) {
    case "resize":
      return {
        kind: "adapt",
        actions: [
          memoryAction(id, memoryMib, pick([256, 320, 512])),
          cpuAction(id, cpuPercent, pick([20, 40, 60])),
        ],
      };
    case "move": {
      const target = pick(hostIds.filter((other) => other !== hostId));
      return {
        kind: "adapt",
        actions: [moveAction(id, hostId, target), memoryAction(id, memoryMib, pick([256, 512]))],
      };
    }
    default:
      return {
        kind: "destroy",
        actions: [{ kind: "destroy_machine", machineId: id, hostId, cost }],
      };
  }
}

async function expectSound(fleet: Fleet, ended: readonly Operation[]): Promise<void> {
  expect(fleet.world.violations).toEqual([]);
  expect(ended.filter((operation) => operation.endedAtMs === undefined)).toEqual([]);
  expect(ended.filter((operation) => operation.state === "stuck")).toEqual([]);
  const machines = await fleet.store.read((journal) => journal.objects.list("machine"));
  for (const { id, effective } of machines) {
    const guest = fleet.world.insideGuest(id);
    if (effective.hostId === "") expect(guest).toBeUndefined();
    else {
      expect({ id, ...guest }).toMatchObject({
        id,
        hostId: effective.hostId,
        cpuPercent: effective.cpuPercent,
      });
    }
  }
  expect(await fleet.litter()).toEqual([]);
  expect(await fleet.networkDifferences()).toEqual([]);
}

test(
  `${seeds.length} fleets through faults, silence and deaths: sound when all has healed`,
  async () => {
    const totals: Record<string, number> = {};
    for (const seed of seeds) {
      try {
        for (const [state, count] of Object.entries(await play(seed))) {
          totals[state] = (totals[state] ?? 0) + count;
        }
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
    // It was a campaign, not a walk.
    expect(totals["succeeded"]).toBeGreaterThan(seeds.length);
    expect(totals["failed"]).toBeGreaterThan(0);
    expect(totals["deaths"]).toBeGreaterThan(0);
    if (process.env["SEEDS"] !== undefined) console.log(totals);
  },
  Math.max(120_000, seeds.length * 10_000),
);
