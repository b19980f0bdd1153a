/**
 * Everything that would keep machines from moving, found before a byte is copied and told at once, each with its fix:
 * both ends' hypervisors, machine types, processors, pools and room for all that comes, addresses, keys, ports, path and
 * clocks. Asks both hosts of each move; changes nothing. What cannot be asked is a blocker of its own.
 */

import {
  type Blocker,
  type BlockerCheck,
  blockerChecks,
  type MachineBlocker,
} from "#model/blocker";
import { Fault, isFault, toFaultData } from "#model/fault";
import type { HostRecord } from "#model/site";
import type { Bytes, HostId, Mib, Ms } from "#model/units";
import { isEncrypted, vxlanOverheadBytes, wireguardOverheadBytes } from "#network/tunnels";
import { dataVolume, overlayVolume } from "#operations/domain-spec";
import type { MoveAction } from "#operations/move-action";
import type { Step } from "#operations/step";
import type { Clock } from "#ports/clock";
import { type Hosts, type MoveCandidate, topVolumeOf } from "#ports/host";
import type { MigrationTls } from "#ports/migration-tls";
import type { Journal, Store } from "#ports/store";

export interface PreflightWorld {
  readonly hosts: Hosts;
  readonly fleet: readonly HostRecord[];
  readonly clock: Clock;
  readonly store: Pick<Store, "read">;
  /** Undefined: moves are not encrypted. */
  readonly migrationTls?: Pick<MigrationTls, "look"> | undefined;
}

/** Where libvirt lets migrations in (its default, docs/libvirt.md); a move takes one for memory and one for its disks. */
export const migrationPorts = { first: 49_152, last: 49_215 } as const;
const portsOfMove = 2;
/** Guests read their host's clock after a move: a jump of more than this breaks protocols in them. */
const maxClockDifferenceMs: Ms = 1_000;
const stepBudgetMs: Ms = 180_000;
const bytesPerMib = 2 ** 20;

/** The first step of every operation that moves something. Fault `migration.blocked` carries all blockers. */
export function preflightStep(
  actions: readonly MoveAction[],
  nameOf: (action: MoveAction) => string,
): Step {
  const what = actions.length === 1 ? "the move" : `all ${actions.length} moves`;
  return {
    name: `look ahead of ${what}`,
    budgetMs: stepBudgetMs,
    weightMs: 200,
    undoNeedless: "it only looks",
    async observe(context) {
      if (context.phase === "after") return { verdict: "done" };
      const blockers = await blockersOfMoves(context.world, actions, nameOf);
      if (blockers.length > 0) throw blockedFault(blockers);
      return { verdict: "done", outcome: { checked: [...blockerChecks] } };
    },
    do: async () => undefined,
  };
}

export function blockedFault(blockers: readonly MachineBlocker[]): Fault {
  return new Fault("migration.blocked", {
    count: blockers.length,
    problems: blockers.map((one) => `${one.machine}: ${one.problem} (${one.check})`).join("; "),
    blockers: blockers.map(({ machine, check, problem, fix }) => ({
      machine,
      check,
      problem,
      fix,
    })),
  });
}

/** In the order of machines, then of checks. Empty: every move can begin. */
export async function blockersOfMoves(
  world: PreflightWorld,
  actions: readonly MoveAction[],
  nameOf: (action: MoveAction) => string,
): Promise<readonly MachineBlocker[]> {
  const look = new Looks(world);
  const found = await Promise.all(
    actions.map(async (action) => {
      const machine = nameOf(action);
      const blockers = await blockersOfMove(world, look, action);
      return blockers.map((one) => ({ ...one, machineId: action.machineId, machine }));
    }),
  );
  const room = await blockersOfRoom(look, actions);
  return actions.flatMap((action, index) =>
    [...(found[index] ?? []), ...namedBy(action, room, nameOf)].toSorted(
      (left, right) => orderOf(left.check) - orderOf(right.check),
    ),
  );
}

function namedBy(
  action: MoveAction,
  room: ReadonlyMap<string, readonly Blocker[]>,
  nameOf: (action: MoveAction) => string,
): readonly MachineBlocker[] {
  const machine = nameOf(action);
  const { machineId } = action;
  return (room.get(machineId) ?? []).map((one) => ({ ...one, machineId, machine }));
}

/** Questions that several moves share are asked once. */
class Looks {
  readonly #world: PreflightWorld;
  readonly #asked = new Map<string, Promise<unknown>>();

  constructor(world: PreflightWorld) {
    this.#world = world;
  }

  once<T>(key: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#asked.get(key) as Promise<T> | undefined;
    if (known !== undefined) return known;
    const asked = ask();
    this.#asked.set(key, asked);
    return asked;
  }

  candidate({ machineId, fromHostId }: MoveAction): Promise<MoveCandidate | undefined> {
    return this.once(`machine ${machineId}`, () =>
      this.#world.hosts.get(fromHostId).describeForMove(machineId),
    );
  }

  /** What each end's clock says, less ours at the middle of the question. */
  clock(hostId: HostId): Promise<{ readonly offsetMs: Ms; readonly errorMs: Ms }> {
    return this.once(`clock ${hostId}`, async () => {
      const { clock, hosts } = this.#world;
      const askedMs = clock.nowMs();
      const saidMs = await hosts.network(hostId).clockMs();
      const tookMs = clock.nowMs() - askedMs;
      return { offsetMs: saidMs - askedMs - tookMs / 2, errorMs: tookMs / 2 };
    });
  }

  /** Its disk layer and its data volumes, as the source's pool has them; undefined: it has none of that name. */
  disks({
    machineId,
    fromHostId,
    volumeIds = [],
  }: MoveAction): Promise<readonly { readonly name: string; readonly bytes: Bytes | undefined }[]> {
    return this.once(`disks ${machineId}`, async () => {
      const { volumes } = this.#world.hosts.get(fromHostId);
      const disks: { name: string; bytes: Bytes | undefined }[] = [];
      for (const name of [overlayVolume(machineId), ...volumeIds.map(dataVolume)]) {
        disks.push({ name, bytes: (await volumes.find(name))?.allocatedBytes });
      }
      return disks;
    });
  }

  room(hostId: HostId) {
    return this.once(`room ${hostId}`, () => this.#world.hosts.get(hostId).observe());
  }
}

async function blockersOfMove(
  world: PreflightWorld,
  look: Looks,
  action: MoveAction,
): Promise<readonly Blocker[]> {
  const { fromHostId, toHostId } = action;
  const host = (id: HostId) => world.fleet.find((one) => one.id === id);
  const [from, to] = [host(fromHostId), host(toHostId)];
  if (from === undefined || to === undefined) {
    throw new Fault("host.unknown", { host: from === undefined ? fromHostId : toHostId });
  }
  // One that does not answer is told once, not once a check.
  const silent = new Map<HostId, Blocker>();
  const asking = async (
    hostId: HostId,
    check: BlockerCheck,
    ask: () => Promise<readonly Blocker[]>,
  ): Promise<readonly Blocker[]> => {
    try {
      return await ask();
    } catch (error) {
      if (!isFault(error)) throw error;
      const end = hostId === fromHostId ? "source" : "destination";
      silent.set(hostId, {
        check: end,
        problem: `${hostId} could not be asked about its ${check}: ${toFaultData(error).message}`,
        fix: `mend ${hostId}, or choose another host`,
      });
      return [];
    }
  };
  const found = await Promise.all([
    asking(fromHostId, "source", () => blockersOfSource(look, action)),
    asking(toHostId, "destination", () => blockersOfDestination(world, look, action)),
    asking(fromHostId, "ports", () => blockersOfWay(world, look, { from, to })),
    asking(toHostId, "ports", () => blockersOfArrival(world, look, { from, to })),
    asking(fromHostId, "mtu", () => blockersOfPath(world, look, action, { from, to })),
    asking(toHostId, "clock", () => blockersOfClocks(look, { from, to })),
    asking(toHostId, "keys", () => blockersOfKeys(world, look, action, { from, to })),
    asking(fromHostId, "certificates", () => blockersOfCertificates(world, look, fromHostId)),
    asking(toHostId, "certificates", () => blockersOfCertificates(world, look, toHostId)),
    world.store.read((journal) => blockersOfAddresses(journal, action)),
  ]);
  return [...silent.values(), ...found.flat()];
}

interface Ends {
  readonly from: HostRecord;
  readonly to: HostRecord;
}

async function blockersOfSource(look: Looks, action: MoveAction): Promise<readonly Blocker[]> {
  const candidate = await look.candidate(action);
  const { fromHostId } = action;
  if (candidate?.state !== "running") {
    return [
      {
        check: "source",
        problem: `${fromHostId} says that it is ${candidate?.state ?? "absent"}`,
        fix: "only a running machine moves: start it, or ask where it is (drover status)",
      },
    ];
  }
  const blockers: Blocker[] = candidate.strangeDisks.map((file) => ({
    check: "disks",
    problem: `its disk ${file} is not in the storage pool of ${fromHostId}`,
    fix: "detach it, or move the file into the pool and start the machine anew",
  }));
  const disks = await look.disks(action);
  const layer = overlayVolume(action.machineId);
  for (const { name } of disks.filter(({ bytes }) => bytes === undefined)) {
    blockers.push({
      check: "disks",
      problem: `its disk ${name === layer ? "layer" : name} is not in the pool of ${fromHostId}`,
      fix: `look at the pool of ${fromHostId} (virsh vol-list)`,
    });
  }
  // A volume that its guest lacks would be left behind, and one that nobody gave it would be lost.
  const written = candidate.volumes.filter((name) => name !== topVolumeOf(layer));
  const named = new Set(disks.map(({ name }) => name));
  for (const { name } of disks) {
    if (name === layer || written.includes(name)) continue;
    blockers.push({
      check: "disks",
      problem: `its volume ${name} is not attached to it any more`,
      fix: "attach it again (virsh attach-disk), or start the machine anew",
    });
  }
  for (const name of written.filter((one) => !named.has(one))) {
    blockers.push({
      check: "disks",
      problem: `its disk ${name} is none of its volumes: it would not go along`,
      fix: "detach it (virsh detach-disk), or declare it as a volume of the machine",
    });
  }
  return blockers;
}

async function blockersOfDestination(
  world: PreflightWorld,
  look: Looks,
  action: MoveAction,
): Promise<readonly Blocker[]> {
  const candidate = await look.candidate(action);
  if (candidate === undefined) return [];
  const destination = world.hosts.get(action.toHostId);
  const [there, blockers] = await Promise.all([
    destination.findDomainByName(candidate.name),
    destination.blockersOf(candidate),
  ]);
  if (there === undefined) return blockers;
  return [
    {
      check: "name",
      problem: `${action.toHostId} has a domain ${candidate.name} already`,
      fix: `look whose it is (virsh dominfo ${there.id}); drover janitor removes what is ours and left over`,
    },
    ...blockers,
  ];
}

async function blockersOfWay(
  world: PreflightWorld,
  look: Looks,
  { from, to }: Ends,
): Promise<readonly Blocker[]> {
  const way = await wayOf(world, look, { from, to });
  if (way.peer === "passes" || way.peer === undefined) return [];
  const ports = `TCP ports ${migrationPorts.first} to ${migrationPorts.last}`;
  return [
    {
      check: "ports",
      problem:
        way.peer === "filtered"
          ? `${from.id} gets no answer from ${to.migrationAddress} on ${ports}`
          : `${from.id} does not reach ${to.migrationAddress} on ${ports}`,
      fix: `open ${ports} of ${to.id} for ${from.migrationAddress}`,
    },
  ];
}

async function blockersOfArrival(
  world: PreflightWorld,
  look: Looks,
  { from, to }: Ends,
): Promise<readonly Blocker[]> {
  const way = await wayOf(world, look, { from: to, to: from });
  const blockers: Blocker[] = [];
  if (!way.ownsAddress) {
    blockers.push({
      check: "addresses",
      problem: `${to.migrationAddress}, where ${to.id} is to be met, is none of its addresses`,
      fix: `mend migration_address of ${to.id} in drover.yaml`,
    });
  }
  const all = migrationPorts.last - migrationPorts.first + 1;
  if (all - way.portsTaken < portsOfMove) {
    blockers.push({
      check: "ports",
      problem: `${way.portsTaken} of the ${all} ports for moves are taken on ${to.id}`,
      fix: `wait until other moves to ${to.id} have ended`,
    });
  }
  return blockers;
}

function wayOf(world: PreflightWorld, look: Looks, { from, to }: Ends) {
  return look.once(`way ${from.id}>${to.id}`, () =>
    world.hosts.network(from.id).moveWay({
      address: from.migrationAddress,
      ports: migrationPorts,
      peerAddress: to.migrationAddress,
    }),
  );
}

/** The largest packet that its LANs would send between the two hosts. */
async function blockersOfPath(
  world: PreflightWorld,
  look: Looks,
  { machineId }: MoveAction,
  { from, to }: Ends,
): Promise<readonly Blocker[]> {
  const mtu = await world.store.read(async (journal) => {
    const nics = (await journal.objects.get("machine", machineId))?.effective.nics ?? [];
    const networks = await Promise.all(
      nics.map((nic) => journal.objects.get("network", nic.networkId)),
    );
    return Math.max(0, ...networks.map((network) => network?.effective.mtu ?? 0));
  });
  if (mtu === 0) return [];
  const overheadBytes = vxlanOverheadBytes + (isEncrypted(from, to) ? wireguardOverheadBytes : 0);
  const neededBytes = mtu + overheadBytes;
  const carriedBytes = await look.once(`path ${from.id}>${to.id} ${neededBytes}`, () =>
    world.hosts.network(from.id).pathMtu(to.migrationAddress, neededBytes),
  );
  if (carriedBytes >= neededBytes) return [];
  return [
    {
      check: "mtu",
      problem:
        carriedBytes === 0
          ? `nothing comes from ${from.id} to ${to.id}`
          : `from ${from.id} to ${to.id} packets of ${carriedBytes} bytes pass, its networks need ${neededBytes}`,
      fix:
        carriedBytes === 0
          ? `mend the path between ${from.id} and ${to.id}`
          : `raise the MTU of the path to ${neededBytes}, or make the networks' MTU ${carriedBytes - overheadBytes}`,
    },
  ];
}

async function blockersOfClocks(look: Looks, { from, to }: Ends): Promise<readonly Blocker[]> {
  const [here, there] = await Promise.all([look.clock(from.id), look.clock(to.id)]);
  const differenceMs = Math.round(Math.abs(here.offsetMs - there.offsetMs));
  if (differenceMs <= maxClockDifferenceMs + here.errorMs + there.errorMs) return [];
  return [
    {
      check: "clock",
      problem: `the clocks of ${from.id} and ${to.id} are ${differenceMs} ms apart`,
      fix: "set both by NTP; the guest would see time jump",
    },
  ];
}

/** A key that is not there yet is made when the first network reaches the host, if the host has the means. */
async function blockersOfKeys(
  world: PreflightWorld,
  look: Looks,
  { machineId }: MoveAction,
  { from, to }: Ends,
): Promise<readonly Blocker[]> {
  if (!isEncrypted(from, to)) return [];
  const keyless = await world.store.read(async (journal) => {
    const record = await journal.objects.get("machine", machineId);
    if ((record?.effective.nics ?? []).length === 0) return false;
    const ends = await journal.tunnelEnds.list();
    return (ends.find((end) => end.hostId === to.id)?.keys.length ?? 0) === 0;
  });
  if (!keyless || (await wayOf(world, look, { from: to, to: from })).canMakeKeys) return [];
  return [
    {
      check: "keys",
      problem: `${to.id} has no key for the tunnels between sites, and nothing to make one with`,
      fix: `install wireguard-tools on ${to.id}`,
    },
  ];
}

/** What somebody else put where QEMU looks for certificates is never replaced; ours are renewed just before the copy. */
async function blockersOfCertificates(
  { migrationTls }: PreflightWorld,
  look: Looks,
  hostId: HostId,
): Promise<readonly Blocker[]> {
  if (migrationTls === undefined) return [];
  try {
    await look.once(`certificates ${hostId}`, () => migrationTls.look(hostId));
    return [];
  } catch (error) {
    if (!isFault(error) || error.code !== "tls.foreign_certificates") throw error;
    const { message, hint } = toFaultData(error);
    return [{ check: "certificates", problem: message, fix: hint }];
  }
}

/** Its addresses have to be its own still. */
async function blockersOfAddresses(
  journal: Journal,
  { machineId }: MoveAction,
): Promise<readonly Blocker[]> {
  const blockers: Blocker[] = [];
  const nics = (await journal.objects.get("machine", machineId))?.effective.nics ?? [];
  for (const nic of nics) {
    const rows = await journal.addresses.list(nic.networkId);
    const other = rows.find((row) => row.address === nic.address && row.machineId !== machineId);
    if (other === undefined) continue;
    blockers.push({
      check: "addresses",
      problem: `its address ${nic.address} is also given to ${other.machineId}`,
      fix: "give one of the two another address",
    });
  }
  return blockers;
}

/** Room for all that goes to one host, counted together: what fits alone may not fit beside the others. */
async function blockersOfRoom(
  look: Looks,
  actions: readonly MoveAction[],
): Promise<ReadonlyMap<string, readonly Blocker[]>> {
  const blockers = new Map<string, readonly Blocker[]>();
  for (const hostId of new Set(actions.map(({ toHostId }) => toHostId))) {
    const coming = actions.filter(({ toHostId }) => toHostId === hostId);
    const last = coming.at(-1);
    if (last === undefined) continue;
    try {
      const room = await look.room(hostId);
      let memoryMib: Mib = 0;
      let diskBytes: Bytes = 0;
      for (const action of coming) {
        memoryMib += (await look.candidate(action))?.memoryMib ?? 0;
        for (const { bytes = 0 } of await look.disks(action)) diskBytes += bytes;
      }
      const who = coming.length === 1 ? "it takes" : `these ${coming.length} machines take`;
      const short: Blocker[] = [];
      if (room.poolFreeBytes < diskBytes) {
        short.push({
          check: "space",
          problem: `${mibText(room.poolFreeBytes)} of disk are free at ${hostId}, ${who} ${mibText(diskBytes)}`,
          fix: `free disk at ${hostId} (drover janitor), or choose another host`,
        });
      }
      if (room.freeMemoryMib < memoryMib) {
        short.push({
          check: "memory",
          problem: `${room.freeMemoryMib} MiB of memory are free at ${hostId}, ${who} ${memoryMib} MiB`,
          fix: `make machines at ${hostId} smaller, or choose another host`,
        });
      }
      blockers.set(last.machineId, short);
    } catch (error) {
      // A silent host is told by the checks of its moves.
      if (!isFault(error)) throw error;
    }
  }
  return blockers;
}

function orderOf(check: BlockerCheck): number {
  return blockerChecks.indexOf(check);
}

function mibText(bytes: Bytes): string {
  return `${Math.round(bytes / bytesPerMib)} MiB`;
}
