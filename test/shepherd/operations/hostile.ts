/**
 * The generic hostile tests: whatever an operation does, break it at every call to a host and kill the shepherd after
 * every write, and look what is left. A new kind of operation adds a scenario, not a test.
 */
import type { MachineRecord, VolumeRecord } from "@drover/shepherd/model/objects";
import type { Operation, OperationKind, PlanAction } from "@drover/shepherd/model/plan";
import { dataVolume, overlayVolume } from "@drover/shepherd/operations/domain-spec";
import { keptLayerMs } from "@drover/shepherd/operations/kept-layers";
import type { FaultEffect } from "@drover/shepherd/simulated/faults";
import type { Speeds } from "@drover/shepherd/simulated/machinery";
import { reaches } from "@drover/shepherd/simulated/network";
import { expect } from "@jest/globals";
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

export interface Scenario {
  readonly name: string;
  readonly kind: OperationKind;
  /** Where the world must be another one than usual. */
  readonly speeds?: Partial<Speeds>;
  prepare(fleet: Fleet, shepherd: Shepherd): Promise<readonly PlanAction[]>;
}

export const scenarios: readonly Scenario[] = [
  {
    name: "create",
    kind: "create",
    async prepare(fleet, shepherd) {
      await fleet.create(shepherd, "rank-1", "north-2");
      return [createAction(await fleet.addMachine("rank-0"), "north-1")];
    },
  },
  {
    // New members of a group, on two hosts, and one that is there already.
    name: "scale",
    kind: "adapt",
    async prepare(fleet, shepherd) {
      await fleet.create(shepherd, "rank-0", "north-1");
      return [
        createAction(await fleet.addMachine("rank-1"), "north-1"),
        createAction(await fleet.addMachine("rank-2"), "south-1"),
      ];
    },
  },
  {
    name: "resize",
    kind: "adapt",
    async prepare(fleet, shepherd) {
      const id = await fleet.create(shepherd, "rank-0", "north-1");
      return [
        memoryAction(id, 256, 320),
        { kind: "set_vcpus", machineId: id, from: 1, to: 2, cost },
        cpuAction(id, 20, 60),
        { kind: "set_cpu_weight", machineId: id, from: 100, to: 300, cost },
      ];
    },
  },
  {
    name: "give back",
    kind: "release",
    async prepare(fleet, shepherd) {
      const id = await fleet.create(shepherd, "rank-0", "north-1");
      await fleet.perform(shepherd, "adapt", [memoryAction(id, 256, 512), cpuAction(id, 20, 60)]);
      await fleet.clock.advance(2_000);
      return [memoryAction(id, 512, 256), cpuAction(id, 60, 20)];
    },
  },
  {
    name: "resize of a group",
    kind: "adapt",
    async prepare(fleet, shepherd) {
      const ids = [
        await fleet.create(shepherd, "rank-0", "north-1"),
        await fleet.create(shepherd, "rank-1", "south-1"),
      ];
      return [
        ...ids.map((id) => memoryAction(id, 256, 320)),
        ...ids.map((id) => cpuAction(id, 20, 60)),
      ];
    },
  },
  {
    name: "restart",
    kind: "update",
    async prepare(fleet, shepherd) {
      const machineId = await fleet.create(shepherd, "rank-0", "north-1");
      await fleet.store.transaction(async (journal) => {
        const record = await journal.objects.get("machine", machineId);
        if (record === undefined) throw new Error("it was just created");
        const spec = { ...record.spec, userData: "#cloud-config\n", stopTimeoutMs: 0 };
        await journal.objects.put({ ...record, spec, version: record.version + 1 });
      });
      return [
        { kind: "restart_machine", machineId, hostId: "north-1", cost },
        memoryAction(machineId, 256, 320),
      ];
    },
  },
  {
    // A card with another address, which is another card, and one more.
    name: "cards",
    kind: "update",
    async prepare(fleet, shepherd) {
      const machineId = await fleet.create(shepherd, "rank-0", "north-1");
      await fleet.create(shepherd, "rank-1", "south-1");
      await fleet.addNetwork("side", "10.43.0.0/24");
      const networks = [{ networkId: "lan", address: "10.42.0.50" }, { networkId: "side" }];
      return [{ kind: "set_networks", machineId, hostId: "north-1", networks, cost }];
    },
  },
  {
    name: "grow two volumes",
    kind: "update",
    async prepare(fleet) {
      const volumeIds = ["data", "more"];
      for (const volumeId of volumeIds) await fleet.addVolume(volumeId, "north-1", 1);
      return volumeIds.map((volumeId) => ({
        kind: "grow_volume" as const,
        volumeId,
        hostId: "north-1",
        fromGib: 1,
        toGib: 2,
        cost,
      }));
    },
  },
  {
    name: "relink",
    kind: "adapt",
    async prepare(fleet, shepherd) {
      await fleet.create(shepherd, "rank-0", "north-1");
      await fleet.create(shepherd, "rank-1", "south-1");
      const linkId = await fleet.addLink("rank-0", "rank-1", 200);
      // What a stack's own apply leaves behind.
      await fleet.perform(shepherd, "repair", [
        { kind: "apply_network", hostIds: ["north-1", "south-1"], cost },
      ]);
      return [{ kind: "set_rate", linkId, fromMbps: 200, toMbps: 400, cost }];
    },
  },
  {
    // The volume goes with it, and where it lies is told with where the machine is.
    name: "move with a volume, and resize",
    kind: "adapt",
    async prepare(fleet, shepherd) {
      await fleet.addVolume("data", "north-1", 1);
      const id = await fleet.create(shepherd, "rank-0", "north-1", ["data"]);
      await fleet.create(shepherd, "rank-1", "north-2");
      return [moveAction(id, "north-1", "south-1", ["data"]), memoryAction(id, 256, 512)];
    },
  },
  {
    // Its own layer is large: it is frozen and shipped before the memory goes, and joined again afterwards.
    name: "move of a large disk, and a volume",
    kind: "adapt",
    speeds: { bootWritesBytes: 70 * 2 ** 20 },
    async prepare(fleet, shepherd) {
      await fleet.addVolume("data", "north-1", 1);
      const id = await fleet.create(shepherd, "rank-0", "north-1", ["data"]);
      return [moveAction(id, "north-1", "south-1", ["data"])];
    },
  },
  {
    // Two hosts came back without their networks.
    name: "repair",
    kind: "repair",
    async prepare(fleet, shepherd) {
      const hostIds = ["north-1", "south-1"];
      for (const [index, hostId] of hostIds.entries())
        await fleet.create(shepherd, `rank-${index}`, hostId);
      for (const hostId of hostIds) {
        const host = fleet.world.data.hosts[hostId];
        if (host !== undefined) host.network = { hostId, bridges: [] };
      }
      return [{ kind: "apply_network", hostIds, cost }];
    },
  },
  {
    // A stopped domain that no record claims with its disk, disks of what lives elsewhere, blocks that nobody came back for.
    name: "sweep of litter",
    kind: "repair",
    async prepare(fleet, shepherd) {
      const here = await fleet.create(shepherd, "rank-0", "north-1");
      const away = await fleet.create(shepherd, "rank-1", "south-1");
      await fleet.addVolume("data", "south-1", 1);
      leave(fleet, "north-1", { domain: here, as: "machine-ghost" });
      leave(fleet, "north-1", { disk: here, as: "machine-ghost" });
      leave(fleet, "north-1", { disk: here, as: "machine-late", touchedAtMs: 0 });
      leave(fleet, "north-1", { disk: away, as: away, from: "south-1" });
      leave(fleet, "north-1", { disk: "data", as: "data", from: "south-1" });
      await fleet.clock.advance(keptLayerMs);
      const ghost = { because: "unknown", machineId: "machine-ghost" } as const;
      const litter = [
        { kind: "domain", id: "machine-ghost", ...ghost },
        { kind: "volume", id: overlayVolume("machine-ghost"), ...ghost },
        { kind: "volume", id: overlayVolume(away), because: "elsewhere", machineId: away },
        { kind: "volume", id: dataVolume("data"), because: "elsewhere", volumeId: "data" },
        {
          kind: "volume",
          id: overlayVolume("machine-late"),
          because: "expired",
          machineId: "machine-late",
        },
      ] as const;
      return [{ kind: "sweep_host", hostId: "north-1", litter, cost }];
    },
  },
  {
    // Two hosts came back: their machines live elsewhere now, or are the very ones that run there.
    name: "sweep of two hosts that came back",
    kind: "repair",
    async prepare(fleet, shepherd) {
      const actions: PlanAction[] = [];
      for (const [index, hostId] of ["north-1", "south-1"].entries()) {
        await fleet.create(shepherd, `rank-${index}`, hostId);
        const moved = await fleet.create(shepherd, `rank-${index + 2}`, "north-2");
        leave(fleet, hostId, { domain: moved, as: moved, from: "north-2" });
        leave(fleet, hostId, { disk: moved, as: moved, from: "north-2" });
        const litter = [
          { kind: "domain", id: moved, because: "elsewhere", machineId: moved },
          { kind: "volume", id: overlayVolume(moved), because: "elsewhere", machineId: moved },
        ] as const;
        actions.push({ kind: "sweep_host", hostId, litter, cost });
      }
      return actions;
    },
  },
  {
    name: "destroy",
    kind: "destroy",
    async prepare(fleet, shepherd) {
      const machineId = await fleet.create(shepherd, "rank-0", "north-1");
      await fleet.create(shepherd, "rank-1", "south-1");
      return [{ kind: "destroy_machine", machineId, hostId: "north-1", cost }];
    },
  },
  {
    name: "destroy that keeps the disk",
    kind: "destroy",
    async prepare(fleet, shepherd) {
      const machineId = await fleet.create(shepherd, "rank-0", "north-1");
      return [{ kind: "destroy_machine", machineId, hostId: "north-1", keepDisk: true, cost }];
    },
  },
];

/** What earlier shepherds left on a host: a stopped domain, or a file, like one that is in use. */
function leave(
  fleet: Fleet,
  hostId: string,
  left: { readonly as: string; readonly from?: string; readonly touchedAtMs?: number } & (
    | { readonly domain: string }
    | { readonly disk: string }
  ),
): void {
  const there = fleet.world.data.hosts[hostId];
  const model = fleet.world.data.hosts[left.from ?? hostId];
  if (there === undefined || model === undefined) throw new Error(`no host ${hostId}`);
  if ("domain" in left) {
    const domain = model.domains[left.domain];
    if (domain === undefined) throw new Error(`no domain ${left.domain}`);
    const name = `drover-ring-${left.as}`;
    there.domains[left.as] = { ...domain, id: left.as, name, state: "shut_off" };
    return;
  }
  const { touchedAtMs } = left;
  const name = overlayVolume(left.as);
  const disk = model.volumes[overlayVolume(left.disk)];
  if (disk === undefined) throw new Error(`no disk ${left.disk}`);
  const partial = { sizeBytes: disk.allocatedBytes, pieces: {}, touchedAtMs: touchedAtMs ?? 0 };
  there.volumes[name] = { ...disk, name, ...(touchedAtMs !== undefined && { partial }) };
}

/** A fleet in which the scenario is about to happen, and what it was. */
export async function stage(scenario: Scenario) {
  const fleet = await createFleet({ speeds: scenario.speeds });
  const first = fleet.start();
  const actions = await scenario.prepare(fleet, first);
  const machines = await fleet.store.read((journal) => journal.objects.list("machine"));
  const links = await fleet.store.read((journal) => journal.objects.list("link"));
  const volumes = await fleet.store.read((journal) => journal.objects.list("volume"));
  await first.operations.stop();
  return { fleet, actions, before: { machines, links, volumes } };
}
export type Staged = Awaited<ReturnType<typeof stage>>;

/** How many calls and writes an undisturbed run takes. */
export async function measure(scenario: Scenario): Promise<{ calls: number; writes: number }> {
  const { fleet, actions } = await stage(scenario);
  let writes = 0;
  const end = fleet.store.onCommit(() => {
    writes += 1;
  });
  const callsBefore = fleet.world.faults.calls.length;
  const operation = await fleet.perform(fleet.start(), scenario.kind, actions);
  expect(operation.state).toBe("succeeded");
  end();
  await fleet.store.close();
  // Writes without events (marks) are not told: twice as many are enough to pass the end.
  return { calls: fleet.world.faults.calls.length - callsBefore, writes: writes * 2 };
}

/** Runs it with the nth call going wrong; returns how it ended. */
export async function withFault(
  scenario: Scenario,
  fault: { nth: number; effect: FaultEffect; times?: number },
): Promise<Operation> {
  const staged = await stage(scenario);
  staged.fleet.world.faults.inject(fault);
  const operation = await staged.fleet.perform(staged.fleet.start(), scenario.kind, staged.actions);
  staged.fleet.world.faults.clear();
  await expectSound(staged, operation);
  await staged.fleet.store.close();
  return operation;
}

/** Kills the shepherd after so many writes, once for each number, then lets the next one recover. */
export async function withCrashes(
  scenario: Scenario,
  deaths: readonly number[],
): Promise<{ operation: Operation; died: number }> {
  const staged = await stage(scenario);
  const { fleet } = staged;
  const { id } = await fleet.admit(fleet.start(), scenario.kind, staged.actions);
  let died = 0;
  for (const afterWrites of deaths) {
    const mortal = fleet.start({ afterWrites });
    // Recovery itself is among the writes; a dead shepherd answers nobody.
    const recovered = mortal.operations.recover();
    const ended = mortal.operations.wait(id, 24 * 3_600_000);
    const outcome = await fleet.clock.until(
      Promise.race([
        recovered.then(() => ended).then(() => "ended" as const),
        deathOf(fleet, mortal),
      ]),
    );
    if (outcome === "ended") break;
    died += 1;
  }
  const last = fleet.start();
  await fleet.clock.until(last.operations.recover());
  const operation = await fleet.clock.until(last.operations.wait(id, 24 * 3_600_000));
  await expectSound(staged, operation);
  await fleet.store.close();
  return { operation, died };
}

/**
 * Dies instead of a write, so that what was just done in the world is not in the journal: the next shepherd meets every
 * step half done, and does it, or undoes it, a second time. `fault` turns the operation round first.
 */
export async function withLostWrite(
  scenario: Scenario,
  losesWrite: number,
  fault?: { nth: number; effect: FaultEffect },
): Promise<{ operation: Operation; died: boolean }> {
  const staged = await stage(scenario);
  const { fleet } = staged;
  const { id } = await fleet.admit(fleet.start(), scenario.kind, staged.actions);
  if (fault !== undefined) fleet.world.faults.inject(fault);
  const mortal = fleet.start({ losesWrite });
  const recovered = mortal.operations.recover();
  const ended = mortal.operations.wait(id, 24 * 3_600_000);
  const outcome = await fleet.clock.until(
    Promise.race([
      recovered.then(() => ended).then(() => "ended" as const),
      deathOf(fleet, mortal),
    ]),
  );
  fleet.world.faults.clear();
  const last = fleet.start();
  await fleet.clock.until(last.operations.recover());
  const operation = await fleet.clock.until(last.operations.wait(id, 24 * 3_600_000));
  await expectSound(staged, operation);
  await fleet.store.close();
  return { operation, died: outcome === "died" };
}

/** Looks every now and then whether it has written its last. */
async function deathOf(fleet: Fleet, shepherd: Shepherd): Promise<"died"> {
  while (!shepherd.dead()) await fleet.clock.sleep(50);
  return "died";
}

/** What must hold however it ended. */
export async function expectSound(staged: Staged, operation: Operation): Promise<void> {
  const { fleet } = staged;
  expect(["succeeded", "failed", "partial", "cancelled"]).toContain(operation.state);
  expect(fleet.world.violations).toEqual([]);
  // What it did is not undone; the rest is the next one's.
  if (operation.kind === "repair" && operation.state !== "succeeded") {
    const { state } = await fleet.perform(fleet.start(), "repair", staged.actions);
    expect(state).toBe("succeeded");
  }
  expect(fleet.world.violations).toEqual([]);
  expect(await fleet.litter()).toEqual([]);
  expect(await fleet.networkDifferences()).toEqual([]);
  const machines = await fleet.store.read((journal) => journal.objects.list("machine"));
  const volumes = await fleet.store.read((journal) => journal.objects.list("volume"));
  for (const machine of machines) expectInForce(fleet, machine, volumes);
  expect(await staleAddresses(fleet, machines)).toEqual([]);
  expect(await wrongVolumes(fleet)).toEqual([]);
  expect(overdueLayers(fleet)).toEqual([]);
  for (const from of machines) {
    for (const to of machines) {
      if (from.effective.state !== "running" || to.effective.state !== "running") continue;
      expect([from.id, to.id, reaches(fleet.world.data, from.id, to.id)]).toEqual([
        from.id,
        to.id,
        true,
      ]);
    }
  }
  if (operation.state === "failed" || operation.state === "cancelled") {
    expectUntouched(staged, machines, operation);
    const placeOf = ({ id, effective: { hostId, siteId } }: VolumeRecord) => [id, hostId, siteId];
    expect(volumes.map(placeOf)).toEqual(staged.before.volumes.map(placeOf));
  }
}

/** Volumes that are smaller than the journal says. */
async function wrongVolumes(fleet: Fleet): Promise<readonly string[]> {
  const volumes = await fleet.store.read((journal) => journal.objects.list("volume"));
  return volumes.flatMap(({ id, effective }) => {
    const there = fleet.world.data.hosts[effective.hostId]?.volumes[`drover-${id}.qcow2`];
    return (there?.capacityBytes ?? 0) >= effective.sizeGib * 2 ** 30 ? [] : [id];
  });
}

/** What failed moves left more than a day ago. */
function overdueLayers(fleet: Fleet): readonly string[] {
  return Object.values(fleet.world.data.hosts).flatMap(({ volumes }) =>
    Object.values(volumes).flatMap(({ name, partial }) =>
      partial !== undefined && fleet.clock.nowMs() - partial.touchedAtMs >= keptLayerMs
        ? [name]
        : [],
    ),
  );
}

/** Addresses that are held for a card which is not there. */
async function staleAddresses(
  fleet: Fleet,
  machines: readonly MachineRecord[],
): Promise<readonly string[]> {
  const used = new Set(
    machines.flatMap(({ effective }) => effective.nics.map(({ address }) => address)),
  );
  const networks = await fleet.store.read((journal) => journal.objects.list("network"));
  const held = await Promise.all(
    networks.map(({ id }) => fleet.store.read((journal) => journal.addresses.list(id))),
  );
  return held
    .flat()
    .map(({ address }) => address)
    .filter((address) => !used.has(address));
}

/** The journal says what the host says. */
function expectInForce(
  fleet: Fleet,
  machine: MachineRecord,
  volumes: readonly VolumeRecord[],
): void {
  const { effective } = machine;
  if (effective.hostId === "") {
    expect(effective.state).toBe("failed");
    return;
  }
  expect(effective.state).toBe("running");
  for (const { id, effective: at } of volumes) {
    if (effective.started?.disks.includes(id) !== true) continue;
    const { hostId, siteId } = effective;
    expect([id, at.hostId, at.siteId]).toEqual([id, hostId, siteId]);
  }
  const guest = fleet.world.insideGuest(machine.id);
  const domain = fleet.world.data.hosts[effective.hostId]?.domains[machine.id];
  expect({
    hostId: guest?.hostId,
    vcpus: guest?.vcpus,
    cpuPercent: guest?.cpuPercent,
    memoryMib: domain?.memory.toMib,
    macs: domain?.spec?.nics.map(({ mac }) => mac).toSorted(),
  }).toEqual({
    hostId: effective.hostId,
    vcpus: effective.vcpus,
    cpuPercent: effective.cpuPercent,
    memoryMib: effective.memoryMib,
    macs: effective.nics.map(({ mac }) => mac).toSorted(),
  });
}

/** A failed operation leaves its machines as they were. */
function expectUntouched(
  { before }: Staged,
  machines: readonly MachineRecord[],
  operation: Operation,
): void {
  if (operation.kind === "create") return;
  const essence = (records: readonly MachineRecord[]) =>
    records.map(({ id, effective: { hostId, siteId, vcpus, cpuPercent, memoryMib, nics } }) => ({
      id,
      hostId,
      // one that was never started is nowhere, wherever it was meant to be
      siteId: hostId === "" ? "" : siteId,
      vcpus,
      cpuPercent,
      memoryMib,
      nics,
    }));
  expect(essence(machines)).toEqual(essence(before.machines));
}
