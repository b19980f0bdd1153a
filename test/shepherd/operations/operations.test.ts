import { reaches } from "@drover/shepherd/simulated/network";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  cost,
  cpuAction,
  createAction,
  createFleet,
  type Fleet,
  memoryAction,
  moveAction,
  type Shepherd,
} from "./fleet.ts";

let fleet: Fleet;
let shepherd: Shepherd;
beforeEach(async () => {
  fleet = await createFleet();
  shepherd = fleet.start();
});
afterEach(async () => {
  expect(fleet.world.violations).toEqual([]);
  await fleet.store.close();
});

describe("create", () => {
  test("places the image, boots the machine, and machines reach each other across sites", async () => {
    const first = await fleet.create(shepherd, "rank-0", "north-1");
    const second = await fleet.create(shepherd, "rank-1", "south-1");
    const record = await fleet.machine(first);
    expect(record?.effective).toMatchObject({
      state: "running",
      hostId: "north-1",
      siteId: "north",
      ceiling: { vcpus: 2, memoryMib: 1024 },
    });
    const domain = fleet.world.data.hosts["north-1"]?.domains[first];
    expect(domain?.name).toBe("drover-ring-rank-0");
    expect(domain?.spec?.boot?.cmdline).toContain("drover.ip=10.42.0.10/24@52:54:00");
    expect(reaches(fleet.world.data, first, second)).toBe(true);
    expect(reaches(fleet.world.data, second, first)).toBe(true);
    expect(await fleet.networkDifferences()).toEqual([]);
    expect(await fleet.litter()).toEqual([]);
  });

  test("two machines of one image at once place its parts once", async () => {
    const ids = [await fleet.addMachine("rank-0"), await fleet.addMachine("rank-1")];
    for (const id of ids) {
      await fleet.admit(shepherd, "create", [createAction(id, "north-1")]);
    }
    const open = await fleet.store.read((journal) => journal.operations.list({}));
    shepherd.operations.kick();
    for (const { id } of open) {
      const ended = await fleet.clock.until(shepherd.operations.wait(id, 3_600_000));
      expect(ended.state).toBe("succeeded");
    }
    const uploads = fleet.world.faults.calls.filter((call) => call.endsWith("volumes.upload"));
    expect(uploads.length).toBe(3);
  });
});

describe("several new machines in one operation", () => {
  const scale = async (count: number) => {
    const actions = [];
    for (let n = 0; n < count; n += 1) {
      actions.push(createAction(await fleet.addMachine(`rank-${n}`), "south-1"));
    }
    return actions;
  };
  /** When a machine's boot began and ended, by the journal. */
  const boots = async (operationId: string) => {
    const steps = await fleet.store.read((journal) => journal.steps.ofOperation(operationId));
    return steps
      .filter(({ name }) => name.endsWith(": start on south-1"))
      .map(({ startedAtMs = 0, endedAtMs = 0 }) => ({ startedAtMs, endedAtMs }));
  };

  test("are made four at a time, and the fifth after them", async () => {
    const operation = await fleet.perform(shepherd, "adapt", await scale(5));
    expect(operation.state).toBe("succeeded");
    const all = await boots(operation.id);
    expect(all.length).toBe(5);
    const [first, fifth] = [all.slice(0, 4), all[4]];
    const ends = first.map(({ endedAtMs }) => endedAtMs);
    // Each of the four had begun before any of them was there.
    for (const { startedAtMs } of first) expect(startedAtMs).toBeLessThan(Math.min(...ends));
    expect(fifth?.startedAtMs).toBeGreaterThanOrEqual(Math.max(...ends));
  });

  test("are all or none: when one cannot start, the others go again", async () => {
    fleet.world.faults.inject({ call: "startDomain", nth: 3, effect: "fail" });
    const operation = await fleet.perform(shepherd, "adapt", await scale(4));
    expect(operation).toMatchObject({ state: "failed" });
    expect(Object.keys(fleet.world.data.hosts["south-1"]?.domains ?? {})).toEqual([]);
    expect(await fleet.litter()).toEqual([]);
  });
});

describe("resize", () => {
  test("sets memory and CPU, records settling, measures, and leaves an adaptation", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    const operation = await fleet.perform(
      shepherd,
      "adapt",
      [memoryAction(id, 256, 320), cpuAction(id, 20, 60)],
      { machines: [{ machineId: id, memoryMib: 320, cpuPercent: 60 }], leaseMs: 3_600_000 },
    );
    expect(operation.state).toBe("succeeded");
    expect(operation.measured?.durationMs).toBeGreaterThan(0);
    const record = await fleet.machine(id);
    const [adaptation] = await fleet.store.read((journal) =>
      journal.adaptations.list({ machineId: id }),
    );
    expect(adaptation?.values).toEqual({ memoryMib: 320, cpuPercent: 60 });
    expect(record?.effective).toMatchObject({
      memoryMib: 320,
      cpuPercent: 60,
      settlingFromMib: 256,
      adaptationId: adaptation?.id,
      leaseUntilMs: adaptation?.leaseUntilMs,
    });
    expect(fleet.world.insideGuest(id)?.cpuPercent).toBe(60);
  });

  test("memory changed behind the shepherd's back is put back", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    fleet.world.setMemoryBehind("north-1", id, 200);
    await fleet.clock.advance(5_000);
    const operation = await fleet.perform(shepherd, "repair", [memoryAction(id, 200, 256)]);
    expect(operation.state).toBe("succeeded");
    await fleet.clock.advance(5_000);
    expect(fleet.world.insideGuest(id)?.memoryMib).toBe(256);
  });

  test("giving back to the baseline ends the adaptation", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    await fleet.perform(shepherd, "adapt", [cpuAction(id, 20, 60)]);
    await fleet.perform(shepherd, "release", [cpuAction(id, 60, 20)]);
    expect(await fleet.store.read((journal) => journal.adaptations.list())).toEqual([]);
    const record = await fleet.machine(id);
    expect(record?.effective.adaptationId).toBeUndefined();
    const events = await fleet.store.read((journal) => journal.events.since(0, 10_000));
    const kinds = events.map((event) => event.kind).filter((kind) => kind.startsWith("adaptation"));
    expect(kinds).toEqual(["adaptation.started", "adaptation.ended"]);
  });

  test("a call whose answer is lost is looked at, not repeated", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    fleet.world.faults.inject({ call: "setMemory", effect: "hang_after" });
    const operation = await fleet.perform(shepherd, "adapt", [memoryAction(id, 256, 320)]);
    expect(operation.state).toBe("succeeded");
    expect(fleet.world.faults.calls.filter((call) => call.endsWith("setMemory"))).toHaveLength(1);
  });

  test("a host that falls silent in the middle is waited for", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    const before = await fleet.machine(id);
    fleet.world.faults.inject({ call: "setMemory", effect: "hang_after" });
    const { id: operationId } = await fleet.admit(shepherd, "adapt", [memoryAction(id, 256, 320)]);
    shepherd.operations.kick();
    await fleet.clock.advance(1_000);
    fleet.world.setReachable("north-1", false);
    await fleet.clock.advance(600_000);
    expect((await fleet.machine(id))?.effective.state).toBe("unknown");
    fleet.world.setReachable("north-1", true);
    shepherd.operations.kick();
    const ended = await fleet.clock.until(shepherd.operations.wait(operationId, 60_000));
    expect(ended.state).toBe("succeeded");
    // How the guest's memory follows is told apart (settlingFromMib).
    const { settlingFromMib: _, ...same } = before?.effective ?? {};
    expect((await fleet.machine(id))?.effective).toMatchObject({ ...same, memoryMib: 320 });
  });
});

describe("relink", () => {
  test("a rate is applied at both ends and recorded", async () => {
    await fleet.create(shepherd, "rank-0", "north-1");
    await fleet.create(shepherd, "rank-1", "south-1");
    const linkId = await fleet.addLink("rank-0", "rank-1", 200);
    const operation = await fleet.perform(shepherd, "adapt", [
      { kind: "set_rate", linkId, fromMbps: 200, toMbps: 400, cost },
    ]);
    expect(operation.state).toBe("succeeded");
    const rates = Object.values(fleet.world.data.hosts).flatMap((host) =>
      host.network.bridges.flatMap((bridge) =>
        bridge.ports.flatMap((port) => port.rates.map((rate) => rate.rateMbps)),
      ),
    );
    expect(rates).toEqual([400, 400]);
    const link = await fleet.store.read((journal) => journal.objects.get("link", linkId));
    expect(link?.effective.adaptationId).toBeDefined();
    await fleet.perform(shepherd, "destroy", [
      { kind: "set_rate", linkId, fromMbps: 400, toMbps: 0, cost },
    ]);
    expect(
      await fleet.store.read((journal) => journal.objects.get("link", linkId)),
    ).toBeUndefined();
    expect(await fleet.networkDifferences()).toEqual([]);
  });
});

describe("move", () => {
  test("keeps the boot, the disk and the LAN; the source keeps nothing", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    const peer = await fleet.create(shepherd, "rank-1", "north-2");
    const before = fleet.world.insideGuest(id);
    const operation = await fleet.perform(shepherd, "adapt", [
      moveAction(id, "north-1", "south-1"),
      memoryAction(id, 256, 512),
    ]);
    expect(operation).toMatchObject({ state: "succeeded" });
    expect(operation.measured?.bytes).toBeGreaterThan(256 * 2 ** 20);
    expect(operation.measured?.downtimeMs).toBeGreaterThan(0);
    const after = fleet.world.insideGuest(id);
    expect(after).toMatchObject({
      hostId: "south-1",
      bootId: before?.bootId,
      diskContent: before?.diskContent,
    });
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "south-1",
      siteId: "south",
      memoryMib: 512,
    });
    expect(reaches(fleet.world.data, id, peer)).toBe(true);
    expect(reaches(fleet.world.data, peer, id)).toBe(true);
    expect(await fleet.litter()).toEqual([]);
    expect(await fleet.networkDifferences()).toEqual([]);
  });

  test("what fails after the switch leaves the machine there, whole: partial", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    fleet.world.faults.inject({ call: "setMemory", effect: "fail" });
    const operation = await fleet.perform(shepherd, "adapt", [
      moveAction(id, "north-1", "south-1"),
      memoryAction(id, 256, 512),
    ]);
    expect(operation.state).toBe("partial");
    expect(operation.fault?.code).toBe("libvirt.operation_failed");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "south-1",
      memoryMib: 256,
    });
    const [adaptation] = await fleet.store.read((journal) => journal.adaptations.list());
    expect(adaptation?.values).toEqual({ siteId: "south" });
    expect(await fleet.litter()).toEqual([]);
  });

  test("a cancel in the copy brings everything back", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    const { id: operationId } = await fleet.admit(shepherd, "adapt", [
      moveAction(id, "north-1", "south-1"),
    ]);
    shepherd.operations.kick();
    await fleet.clock.advance(500);
    await shepherd.operations.cancel(operationId);
    const ended = await fleet.clock.until(shepherd.operations.wait(operationId, 3_600_000));
    expect(ended.state).toBe("cancelled");
    expect((await fleet.machine(id))?.effective).toMatchObject({
      state: "running",
      hostId: "north-1",
    });
    expect(await fleet.litter()).toEqual([]);
    expect(await fleet.networkDifferences()).toEqual([]);
  });

  test("a guest that dirties faster than the line carries is given up, and runs on", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    fleet.world.faults.inject({ call: "perform", effect: "hang" });
    const operation = await fleet.perform(shepherd, "adapt", [
      moveAction(id, "north-1", "south-1"),
    ]);
    expect(operation.state).toBe("failed");
    expect(operation.fault?.code).toBe("migration.stalled");
    expect(fleet.world.insideGuest(id)?.hostId).toBe("north-1");
    expect(await fleet.litter()).toEqual([]);
  });

  test("a source that falls silent after the switch is waited for before its disk goes", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    fleet.world.faults.inject({ call: "confirm", effect: "hang" });
    const { id: operationId } = await fleet.admit(shepherd, "adapt", [
      moveAction(id, "north-1", "south-1"),
    ]);
    shepherd.operations.kick();
    while (fleet.world.insideGuest(id)?.hostId !== "south-1") await fleet.clock.advance(50);
    fleet.world.setReachable("north-1", false);
    await fleet.clock.advance(3_600_000);
    expect(fleet.world.data.hosts["north-1"]?.volumes[`drover-${id}.qcow2`]).toBeDefined();
    fleet.world.setReachable("north-1", true);
    const ended = await fleet.clock.until(shepherd.operations.wait(operationId, 3_600_000));
    expect(ended.state).toBe("succeeded");
    expect(await fleet.litter()).toEqual([]);
  });
});

describe("destroy", () => {
  test("leaves nothing; the last machine takes its image's parts along", async () => {
    const ids = [
      await fleet.create(shepherd, "rank-0", "north-1"),
      await fleet.create(shepherd, "rank-1", "south-1"),
    ];
    for (const machineId of ids) {
      const record = await fleet.machine(machineId);
      const operation = await fleet.perform(shepherd, "destroy", [
        {
          kind: "destroy_machine",
          machineId,
          hostId: record?.effective.hostId ?? "",
          cost,
        },
      ]);
      expect(operation.state).toBe("succeeded");
    }
    expect(await fleet.store.read((journal) => journal.objects.list("machine"))).toEqual([]);
    for (const host of Object.values(fleet.world.data.hosts)) {
      expect(host.domains).toEqual({});
      expect(host.volumes).toEqual({});
      expect(host.network.bridges).toEqual([]);
    }
  });
});

describe("admission", () => {
  test("a grant for another plan, an expired and a used one are refused", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    const { id: operationId } = await fleet.admit(shepherd, "adapt", [memoryAction(id, 256, 300)]);
    const operation = await fleet.store.read((journal) => journal.operations.get(operationId));
    const { grant, plan, request } = await fleet.store.read(async (journal) => ({
      grant: await journal.grants.get(operation?.grantId ?? ""),
      plan: await journal.plans.get(operation?.planId ?? ""),
      request: await journal.requests.get(operation?.requestId ?? ""),
    }));
    if (grant === undefined || plan === undefined || request === undefined) throw new Error("gone");
    const admit = (change: object) =>
      fleet.store.transaction((journal) =>
        shepherd.operations.admit(journal, {
          grant: { ...grant, ...change },
          plan,
          request,
          kind: "adapt",
        }),
      );
    await expect(admit({})).rejects.toMatchObject({ code: "grant.used" });
    await expect(admit({ planDigest: "other" })).rejects.toMatchObject({
      code: "grant.plan_mismatch",
    });
    await expect(admit({ expiresAtMs: 0 })).rejects.toMatchObject({ code: "grant.expired" });
  });

  test("operations of one machine run one after the other, in order; reservations stand meanwhile", async () => {
    const id = await fleet.create(shepherd, "rank-0", "north-1");
    const first = await fleet.admit(shepherd, "adapt", [memoryAction(id, 256, 512)]);
    const second = await fleet.admit(shepherd, "adapt", [memoryAction(id, 512, 300)]);
    const held = await fleet.store.read((journal) => journal.reservations.list());
    expect(held.map(({ hostId, memoryMib }) => ({ hostId, memoryMib }))).toEqual([
      { hostId: "north-1", memoryMib: 512 },
      { hostId: "north-1", memoryMib: 512 },
    ]);
    shepherd.operations.kick();
    const ends = await Promise.all(
      [first, second].map(({ id: operationId }) =>
        fleet.clock.until(shepherd.operations.wait(operationId, 3_600_000)),
      ),
    );
    expect(ends.map((end) => end.state)).toEqual(["succeeded", "succeeded"]);
    expect((await fleet.machine(id))?.effective.memoryMib).toBe(300);
    expect(await fleet.litter()).toEqual([]);
  });
});
