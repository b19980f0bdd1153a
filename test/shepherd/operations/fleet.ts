/** A small simulated fleet with its journal, and shepherds that come and go: what the tests of operations stand on. */
import { Readable } from "node:stream";
import type { LinkRecord, MachineRecord, MachineSpec } from "@drover/shepherd/model/objects";
import type { Operation, OperationKind, PlanAction } from "@drover/shepherd/model/plan";
import type { Request } from "@drover/shepherd/model/request";
import type { HostRecord } from "@drover/shepherd/model/site";
import { derive } from "@drover/shepherd/network/derive";
import { macAddress, tapName } from "@drover/shepherd/network/names";
import { withGraves } from "@drover/shepherd/operations/graves";
import { readNetworkState } from "@drover/shepherd/operations/network-state";
import { createOperations, type Operations } from "@drover/shepherd/operations/operations";
import type { Clock } from "@drover/shepherd/ports/clock";
import type { ImageFiles } from "@drover/shepherd/ports/image-files";
import type { Store } from "@drover/shepherd/ports/store";
import { createVirtualClock, type VirtualClock } from "@drover/shepherd/simulated/clock";
import { createMortalStore, type Death } from "@drover/shepherd/simulated/crash";
import { createSeededIds } from "@drover/shepherd/simulated/ids";
import type { Speeds } from "@drover/shepherd/simulated/machinery";
import { type Connection, createWorld, type World } from "@drover/shepherd/simulated/world";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { admitOrder, cost } from "./order.ts";

export { cost };

const gib = 2 ** 30;
const mib = 2 ** 20;
export const sizing = { vcpus: 1, cpuPercent: 20, memoryMib: 256 };

const hosts: readonly HostRecord[] = [
  host("north-1", "north", "10.1.0.1"),
  host("north-2", "north", "10.1.0.2"),
  host("south-1", "south", "10.2.0.1"),
];

export interface Shepherd {
  readonly operations: Operations;
  readonly connection: Connection;
  readonly store: Store;
  dead(): boolean;
}

export interface Fleet {
  readonly clock: VirtualClock;
  readonly world: World;
  /** Of whoever looks from outside; never dies. */
  readonly store: Store;
  readonly hosts: readonly HostRecord[];
  /** A shepherd of its own; with `death` it dies then. */
  start(
    death?: Omit<Death, "onDeath"> & { readonly isDead?: (hostId: string) => boolean },
  ): Shepherd;
  /** Journals request, plan and grant and admits them, as the gate does. */
  admit(
    shepherd: Shepherd,
    kind: OperationKind,
    actions: readonly PlanAction[],
    request?: Partial<Request>,
  ): Promise<Operation>;
  /** Admits, runs, lets time pass until it ended. */
  perform(
    shepherd: Shepherd,
    kind: OperationKind,
    actions: readonly PlanAction[],
    request?: Partial<Request>,
  ): Promise<Operation>;
  machine(id: string): Promise<MachineRecord | undefined>;
  addMachine(name: string, spec?: Partial<MachineSpec>): Promise<string>;
  addLink(left: string, right: string, rateMbps: number): Promise<string>;
  addNetwork(name: string, cidr: string): Promise<void>;
  /** A data volume with its file. */
  addVolume(name: string, hostId: string, sizeGib: number): Promise<void>;
  create(
    shepherd: Shepherd,
    name: string,
    hostId: string,
    volumeIds?: readonly string[],
  ): Promise<string>;
  /** What hosts hold, without what is shared and swept later (image parts). */
  litter(): Promise<readonly string[]>;
  /** Hosts whose network is not what the journal says. */
  networkDifferences(): Promise<readonly string[]>;
}

export async function createFleet(
  options: {
    readonly seed?: number;
    readonly file?: string;
    readonly speeds?: Partial<Speeds> | undefined;
  } = {},
): Promise<Fleet> {
  const clock = createVirtualClock();
  const world = createWorld({
    clock,
    hosts: hosts.map(({ id }) => ({ id, cores: 4, memoryMib: 4096, poolBytes: 20 * gib })),
    ...(options.speeds && { speeds: options.speeds }),
  });
  const store = openSqliteStore(options.file ?? ":memory:");
  const ids = createSeededIds({ clock, seed: options.seed ?? 1 });
  await declare(store, clock);

  const fleet: Fleet = {
    clock,
    world,
    store,
    hosts,
    start(death) {
      const connection = world.connect();
      const life = { dead: false };
      const own =
        death === undefined
          ? store
          : createMortalStore(store, {
              ...death,
              onDeath: () => {
                life.dead = true;
                connection.cut();
              },
            });
      const operations = createOperations({
        store: own,
        hosts: withGraves(connection.hosts, death?.isDead ?? (() => false)),
        clock,
        ids,
        fleet: hosts,
        images,
        epoch: 1,
        log: silent,
      });
      return { operations, connection, store: own, dead: () => life.dead };
    },
    admit: ({ operations, store: own }, kind, actions, request) =>
      admitOrder(
        { operations, store: own, clock, ids },
        { kind, environmentId: "ring", actions, ...(request && { request }) },
      ),
    async perform(shepherd, kind, actions, request) {
      const { id } = await fleet.admit(shepherd, kind, actions, request);
      shepherd.operations.kick();
      return clock.until(shepherd.operations.wait(id, 24 * 3_600_000));
    },
    machine: (id) => store.read((journal) => journal.objects.get("machine", id)),
    async addMachine(name, spec) {
      const record = machineRecord(name, clock, spec);
      await store.transaction((journal) => journal.objects.put(record));
      return record.id;
    },
    async addLink(left, right, rateMbps) {
      const record: LinkRecord = {
        kind: "link",
        id: `link-${left}-${right}`,
        key: `ring/${left}--${right}`,
        environmentId: "ring",
        spec: { environmentId: "ring", machines: [left, right], rateMbps },
        effective: { rateMbps },
        version: 1,
        claimed: true,
        createdAtMs: clock.nowMs(),
      };
      await store.transaction((journal) => journal.objects.put(record));
      return record.id;
    },
    async addNetwork(name, cidr) {
      const networks = await store.read((journal) => journal.objects.list("network"));
      await store.transaction((journal) =>
        journal.objects.put({
          kind: "network",
          id: name,
          key: `ring/${name}`,
          environmentId: "ring",
          spec: { environmentId: "ring", name, cidr },
          effective: { vni: 0xd00000 + networks.length, mtu: 1450 },
          version: 1,
          claimed: true,
          createdAtMs: clock.nowMs(),
        }),
      );
    },
    async addVolume(name, hostId, sizeGib) {
      const { volumes } = world.connect().hosts.get(hostId);
      const file = { name: `drover-${name}.qcow2`, capacityBytes: sizeGib * gib };
      await clock.until(volumes.createEmpty(file));
      await store.transaction((journal) =>
        journal.objects.put({
          kind: "volume",
          id: name,
          key: `ring/${name}`,
          environmentId: "ring",
          spec: { environmentId: "ring", name, sizeGib },
          effective: { hostId, siteId: hostId.split("-")[0] ?? "", sizeGib },
          version: 1,
          claimed: true,
          createdAtMs: clock.nowMs(),
        }),
      );
    },
    async create(shepherd, name, hostId, volumeIds) {
      const machineId = await fleet.addMachine(name, volumeIds && { disks: volumeIds });
      const action = { ...createAction(machineId, hostId), ...(volumeIds && { volumeIds }) };
      const operation = await fleet.perform(shepherd, "create", [action]);
      if (operation.state !== "succeeded") throw new Error(JSON.stringify(operation));
      return machineId;
    },
    async litter() {
      const machines = await store.read((journal) => journal.objects.list("machine"));
      const home = new Map(machines.map(({ id, effective }) => [id, effective.hostId]));
      const found: string[] = [];
      // A machine's disk that was kept is a volume under its id; its file must be there.
      const kept = await store.read((journal) => journal.objects.list("volume"));
      for (const { id, effective } of kept) {
        const there = world.data.hosts[effective.hostId]?.volumes[`drover-${id}.qcow2`];
        const machineId: string = id;
        if (there === undefined) found.push(`${effective.hostId}: volume ${id} is lost`);
        else if (!home.has(machineId)) home.set(machineId, effective.hostId);
        for (const { id: hostId, volumes } of Object.values(world.data.hosts)) {
          if (hostId === effective.hostId || volumes[`drover-${id}.qcow2`] === undefined) continue;
          found.push(`${hostId}: a copy of volume ${id}`);
        }
      }
      for (const { id: hostId, domains, volumes } of Object.values(world.data.hosts)) {
        for (const { id, state } of Object.values(domains)) {
          if (home.get(id) !== hostId || state !== "running")
            found.push(`${hostId}: domain ${id} ${state}`);
        }
        for (const [name, { partial }] of Object.entries(volumes)) {
          // What a failed move sent is kept for its retry; it expires.
          if (partial !== undefined) continue;
          const machineId = /^drover-(machine-.*)\.qcow2$/.exec(name)?.[1];
          if (machineId === undefined) continue;
          if (home.get(machineId) !== hostId) found.push(`${hostId}: volume ${name}`);
        }
      }
      const reservations = await store.read((journal) => journal.reservations.list());
      for (const { machineId } of reservations) found.push(`reservation of ${machineId}`);
      return found;
    },
    async networkDifferences() {
      const state = await store.read((journal) => readNetworkState(journal, hosts));
      const { hosts: access } = world.connect();
      const all: string[] = [];
      for (const { id } of hosts) {
        const differences = await clock.until(access.network(id).audit(derive(id, state)));
        all.push(...differences.map((one) => `${id}: ${one.problem} ${one.object}`));
      }
      return all;
    },
  };
  return fleet;
}

export function createAction(machineId: string, hostId: string): PlanAction {
  const siteId = hostId.split("-")[0] ?? "";
  return { kind: "create_machine", machineId, hostId, siteId, sizing, cost };
}

export function moveAction(
  machineId: string,
  fromHostId: string,
  toHostId: string,
  volumeIds?: readonly string[],
): PlanAction {
  return {
    kind: "move_machine",
    machineId,
    fromHostId,
    fromSiteId: fromHostId.split("-")[0] ?? "",
    toHostId,
    toSiteId: toHostId.split("-")[0] ?? "",
    ...(volumeIds && { volumeIds }),
    cost: { durationMs: 2_000, bytes: 300 * mib, downtimeMs: 100 },
  };
}

export function memoryAction(machineId: string, fromMib: number, toMib: number): PlanAction {
  return { kind: "set_memory", machineId, fromMib, toMib, cost };
}

export function cpuAction(machineId: string, from: number, to: number): PlanAction {
  return { kind: "set_cpu_percent", machineId, from, to, cost };
}

const imageBytes = Buffer.alloc(64 * 1024, 7);
const images: ImageFiles = {
  sizeBytes: async () => imageBytes.length,
  open: () => Readable.from([imageBytes]),
};

const quiet = () => undefined;
const silent = { info: quiet, warn: quiet, error: quiet };

function host(id: string, siteId: string, migrationAddress: string): HostRecord {
  const lend = { cpuPercent: 400, memoryMib: 4096, diskGib: 20 };
  return { id, siteId, pool: "drover", migrationAddress, lend };
}

async function declare(store: Store, clock: Clock): Promise<void> {
  const common = { version: 1, claimed: true, createdAtMs: clock.nowMs() };
  await store.transaction(async (journal) => {
    await journal.objects.put({
      ...common,
      kind: "environment",
      id: "ring",
      key: "ring",
      environmentId: undefined,
      spec: { name: "ring", owner: "alice", class: "batch", sites: ["north", "south"] },
      effective: {},
    });
    await journal.objects.put({
      ...common,
      kind: "network",
      id: "lan",
      key: "ring/lan",
      environmentId: "ring",
      spec: { environmentId: "ring", name: "lan", cidr: "10.42.0.0/24" },
      effective: { vni: 0xd00000, mtu: 1450 },
    });
    await journal.objects.put({
      ...common,
      kind: "image",
      id: "image",
      key: "base",
      environmentId: undefined,
      spec: { name: "base", source: "/base", sha256: "aa", kernel: "/kernel", initrd: "/initrd" },
      effective: {
        sizeBytes: imageBytes.length,
        virtualBytes: gib,
        kernelSha256: "bb",
        initrdSha256: "cc",
      },
    });
  });
}

function machineRecord(name: string, clock: Clock, spec: Partial<MachineSpec> = {}): MachineRecord {
  const id = `machine-${name}`;
  const octet = 10 + Number(/\d+$/.exec(name)?.[0] ?? 0);
  return {
    kind: "machine",
    id,
    key: `ring/${name}`,
    environmentId: "ring",
    spec: {
      environmentId: "ring",
      name,
      speaker: false,
      imageId: "image",
      baseline: { ...sizing, siteId: "north" },
      envelope: {
        mode: "auto",
        vcpus: { min: 1, max: 2 },
        cpuPercent: { min: 10, max: 60 },
        memoryMib: { min: 192, max: 1024 },
        sites: ["north", "south"],
      },
      networks: [{ networkId: "lan" }],
      ...spec,
    },
    effective: {
      ...sizing,
      siteId: "",
      hostId: "",
      state: "creating",
      ceiling: { vcpus: 1, memoryMib: 256 },
      nics: [
        {
          networkId: "lan",
          address: `10.42.0.${octet}`,
          prefixLength: 24,
          mac: macAddress(id, 0),
          tap: tapName(id, 0),
        },
      ],
    },
    version: 1,
    claimed: true,
    createdAtMs: clock.nowMs(),
  };
}
