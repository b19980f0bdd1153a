import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { cost, createFleet, type Fleet, memoryAction, moveAction, type Shepherd } from "./fleet.ts";

let fleet: Fleet;
let shepherd: Shepherd;
let id: string;
beforeEach(async () => {
  fleet = await createFleet();
  shepherd = fleet.start();
  id = await fleet.create(shepherd, "rank-0", "north-1");
});
afterEach(() => fleet.store.close());

const overlay = () => `drover-${id}.qcow2`;
const at = (hostId: string) => fleet.world.data.hosts[hostId];
const until = (operationId: string) =>
  fleet.clock.until(shepherd.operations.wait(operationId, 24 * 3_600_000));

/** A move that is suspended right after the hand-over, by the shepherd's death. */
async function handOver(): Promise<string> {
  const mortal = fleet.start({
    afterStep: (step) => (step.outcome as { phase?: string } | undefined)?.phase === "handed_over",
  });
  const { id: operationId } = await fleet.admit(mortal, "adapt", [
    moveAction(id, "north-1", "south-1"),
  ]);
  mortal.operations.kick();
  while (!mortal.dead()) await fleet.clock.advance(50);
  expect(at("north-1")?.domains[id]?.state).toBe("paused_migrating");
  return operationId;
}

describe("nothing is concluded from silence", () => {
  test("handed over, and the destination does not answer: the source stays paused until it does", async () => {
    const operationId = await handOver();
    fleet.world.setReachable("south-1", false);
    shepherd = fleet.start();
    void shepherd.operations.recover();
    await fleet.clock.advance(6 * 3_600_000);
    expect(at("north-1")?.domains[id]?.state).toBe("paused_migrating");
    expect((await fleet.machine(id))?.effective.state).toBe("unknown");
    expect(await shepherdSays(operationId)).toContain("the destination does not answer");
    fleet.world.setReachable("south-1", true);
    expect((await until(operationId)).state).toBe("succeeded");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "south-1",
    });
    expect(fleet.world.violations).toEqual([]);
  });

  test("no answer from the source: no disk is removed anywhere, nothing is started", async () => {
    const operationId = await handOver();
    fleet.world.setReachable("north-1", false);
    shepherd = fleet.start();
    void shepherd.operations.recover();
    await fleet.clock.advance(6 * 3_600_000);
    expect(at("north-1")?.volumes[overlay()]).toBeDefined();
    expect(at("south-1")?.volumes[overlay()]).toBeDefined();
    expect(at("south-1")?.domains).toEqual({});
    fleet.world.setReachable("north-1", true);
    expect((await until(operationId)).state).toBe("succeeded");
    expect(await fleet.litter()).toEqual([]);
  });
});

describe("what only a human can answer", () => {
  test("two running copies: stuck, both kept; nothing more is started on the machine, but it can be destroyed", async () => {
    const operationId = await handOver();
    // Somebody starts the copy at the destination by hand, and resumes the source.
    const source = at("north-1")?.domains[id];
    const south = at("south-1");
    if (source === undefined || south === undefined) throw new Error("gone");
    source.state = "running";
    south.domains[id] = { ...source };
    shepherd = fleet.start();
    await fleet.clock.until(shepherd.operations.recover());
    const stuck = await until(operationId);
    expect(stuck).toMatchObject({ state: "stuck", fault: { code: "operation.question" } });
    expect(stuck.fault?.message).toContain("which of the two is the machine?");
    expect(at("north-1")?.domains[id]?.state).toBe("running");
    expect(at("south-1")?.domains[id]?.state).toBe("running");
    const held = await fleet.store.read((journal) => journal.reservations.list());
    expect(held.map((one) => one.hostId)).toEqual(["north-1", "south-1"]);

    await expect(
      fleet.admit(shepherd, "adapt", [memoryAction(id, 256, 300)]),
    ).rejects.toMatchObject({ code: "operation.machine_stuck" });
    const destroyed = await fleet.perform(shepherd, "destroy", [
      { kind: "destroy_machine", machineId: id, hostId: "north-1", cost },
    ]);
    expect(destroyed.state).toBe("succeeded");
    for (const hostId of ["north-1", "south-1"]) {
      expect(at(hostId)?.domains).toEqual({});
      expect(at(hostId)?.volumes).toEqual({});
    }
    expect(await fleet.store.read((journal) => journal.reservations.list())).toEqual([]);
    expect((await fleet.store.read((journal) => journal.operations.get(operationId)))?.state).toBe(
      "failed",
    );
  });

  test("it names the commands that answer the question, and goes on when it is asked again", async () => {
    const operationId = await handOver();
    const source = at("north-1")?.domains[id];
    const south = at("south-1");
    if (source === undefined || south === undefined) throw new Error("gone");
    source.state = "running";
    south.domains[id] = { ...source };
    shepherd = fleet.start();
    await fleet.clock.until(shepherd.operations.recover());
    const stuck = await until(operationId);
    expect(stuck.fault?.details["commands"]).toEqual([
      `ssh north-1 virsh dominfo ${id}`,
      `ssh south-1 virsh dominfo ${id}`,
      `ssh south-1 virsh destroy ${id}   # when north-1 is right`,
      `ssh north-1 virsh destroy ${id}   # when south-1 is right`,
      `drover stuck retry ${operationId}`,
    ]);
    // Asked too early, it is stuck again.
    await shepherd.operations.retry(operationId);
    expect((await until(operationId)).state).toBe("stuck");
    delete south.domains[id];
    await shepherd.operations.retry(operationId);
    expect((await until(operationId)).state).toBe("failed");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "north-1",
    });
    // Nothing happens to one that has ended.
    expect((await shepherd.operations.retry(operationId)).state).toBe("failed");
  });

  test("after the answer, the next start ends it", async () => {
    const operationId = await handOver();
    const source = at("north-1")?.domains[id];
    const south = at("south-1");
    if (source === undefined || south === undefined) throw new Error("gone");
    source.state = "running";
    south.domains[id] = { ...source };
    shepherd = fleet.start();
    await fleet.clock.until(shepherd.operations.recover());
    await until(operationId);
    await shepherd.operations.stop();

    delete south.domains[id];
    shepherd = fleet.start();
    await fleet.clock.until(shepherd.operations.recover());
    const ended = await until(operationId);
    expect(ended.state).toBe("failed");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "north-1",
    });
    expect(await fleet.litter()).toEqual([]);
    expect(await fleet.networkDifferences()).toEqual([]);
  });

  test("a machine that ran out in the middle of a move is on neither host: stuck, disks kept", async () => {
    const operationId = await handOver();
    delete at("north-1")?.domains[id];
    shepherd = fleet.start();
    await fleet.clock.until(shepherd.operations.recover());
    const stuck = await until(operationId);
    expect(stuck.state).toBe("stuck");
    expect(stuck.fault?.message).toContain("runs on neither north-1 (absent) nor south-1 (absent)");
    expect(at("north-1")?.volumes[overlay()]).toBeDefined();
  });
});

test("a shepherd whose journal was taken over writes no more, and its half-done move is the other's", async () => {
  const folder = mkdtempSync(join(tmpdir(), "drover-fence-"));
  const file = join(folder, "journal.sqlite");
  const fenced = await createFleet({ file });
  const old = fenced.start();
  const machineId = await fenced.create(old, "rank-0", "north-1");
  const { id: operationId } = await fenced.admit(old, "adapt", [
    moveAction(machineId, "north-1", "south-1"),
  ]);
  old.operations.kick();
  await fenced.clock.advance(700);
  const before = await fenced.store.read((journal) => journal.events.last());

  const young = openSqliteStore(file);
  await fenced.clock.advance(600_000);
  // The old one copied on, could not journal the hand-over, and let go: its source took the guest back or waits.
  const left = await young.read((journal) => journal.operations.get(operationId));
  expect(left?.state).toBe("running");
  expect(await young.read((journal) => journal.events.last())).toBe(before);
  expect(fenced.world.violations).toEqual([]);
  await young.close();
  await fenced.store.close();
  rmSync(folder, { recursive: true });
});

async function shepherdSays(operationId: string): Promise<string> {
  const operation = await fleet.store.read((journal) => journal.operations.get(operationId));
  return operation?.progress.message ?? "";
}
