/**
 * How much room each host has: what its owner lends, minus our machines, minus foreign ones, and never more than the
 * host itself says is free. Pure arithmetic over facts; knows nothing of requests. Admission trusts these numbers.
 */
import type { Facts, HostFacts } from "#model/facts";
import type { MachineRecord } from "#model/objects";
import type { HostId, MachineId } from "#model/units";

/** What a machine takes of a host, and what a host has of it. */
export interface Amounts {
  readonly cpuPercent: number;
  readonly memoryMib: number;
  readonly diskBytes: number;
}
export type Dimension = keyof Amounts;
export const dimensions = ["cpuPercent", "memoryMib", "diskBytes"] as const;
export const nothing: Amounts = { cpuPercent: 0, memoryMib: 0, diskBytes: 0 };

const bytesPerGib = 2 ** 30;
/** A disk layer whose image is not known is counted with this; the lab's image is smaller. */
const unknownDiskBytes = 2 * bytesPerGib;

export interface HostRoom {
  readonly host: HostFacts;
  /** Lent, minus what foreign machines take. May be negative when they took more. */
  readonly capacity: Amounts;
  /** What each of our machines may take here, reservations included. */
  readonly takenBy: ReadonlyMap<MachineId, Amounts>;
  /** What can still be given: min(capacity - taken, what the host says is free). Negative when overfull. */
  readonly free: Amounts;
}

/** Planner and policy ask several times a decision, and each time it is a walk over the whole fleet. */
const counted = new WeakMap<Facts, ReadonlyMap<HostId, HostRoom>>();

/** Room of every host by id. Machines count with the larger of effective, observed and reserved. */
export function roomOf(facts: Facts): ReadonlyMap<HostId, HostRoom> {
  const known = counted.get(facts);
  if (known !== undefined) return known;
  const taken = takenByHost(facts);
  const rooms = new Map(
    facts.sites
      .flatMap((site) => site.hosts)
      .map((host) => [host.id, hostRoom(facts, host, taken.get(host.id) ?? new Map())] as const),
  );
  counted.set(facts, rooms);
  return rooms;
}

/** Virtual size of a machine's own disk layer and data volumes: what it may come to take at a host. */
export function diskBytesOf(
  facts: Pick<Facts, "images" | "volumes">,
  machine: MachineRecord,
): number {
  const image = facts.images.find((candidate) => candidate.id === machine.spec.imageId);
  const { spec, effective } = machine;
  const disks = new Set([...(spec.disks ?? []), ...(effective.started?.disks ?? [])]);
  const volumes = [...disks].reduce((total, id) => {
    const volume = facts.volumes.find((candidate) => candidate.id === id);
    return total + (volume?.spec.sizeGib ?? 0) * bytesPerGib;
  }, 0);
  return (image?.effective.virtualBytes ?? unknownDiskBytes) + volumes;
}

export function add(left: Amounts, right: Amounts): Amounts {
  return combine(left, right, (one, other) => one + other);
}
export function subtract(left: Amounts, right: Amounts): Amounts {
  return combine(left, right, (one, other) => one - other);
}
export function larger(left: Amounts, right: Amounts): Amounts {
  return combine(left, right, Math.max);
}
export function smaller(left: Amounts, right: Amounts): Amounts {
  return combine(left, right, Math.min);
}
export function sum(amounts: Iterable<Amounts>): Amounts {
  let total = nothing;
  for (const amount of amounts) total = add(total, amount);
  return total;
}
function combine(left: Amounts, right: Amounts, of: (a: number, b: number) => number): Amounts {
  return {
    cpuPercent: of(left.cpuPercent, right.cpuPercent),
    memoryMib: of(left.memoryMib, right.memoryMib),
    diskBytes: of(left.diskBytes, right.diskBytes),
  };
}

function hostRoom(
  facts: Facts,
  host: HostFacts,
  takenBy: ReadonlyMap<MachineId, Amounts>,
): HostRoom {
  const lent = {
    cpuPercent: host.lend.cpuPercent - host.foreign.cpuPercent,
    memoryMib: host.lend.memoryMib - host.foreign.memoryMib,
    diskBytes: host.lend.diskGib * bytesPerGib,
  };
  // A host that drains lends nothing more: nothing comes, nothing grows.
  const capacity = host.mark === undefined ? lent : nothing;
  const left = subtract(capacity, sum(takenBy.values()));
  return { host, capacity, takenBy, free: smaller(left, observedFree(facts, host, takenBy)) };
}

/** What the host says is free, minus what was promised to our machines and they have not taken yet. */
function observedFree(
  facts: Facts,
  host: HostFacts,
  takenBy: ReadonlyMap<MachineId, Amounts>,
): Amounts {
  let promisedMib = 0;
  let promisedBytes = 0;
  for (const [machineId, amounts] of takenBy) {
    const seen = facts.observed[machineId];
    const seenMib = seen?.hostId === host.id && seen.running ? seen.memoryMib : 0;
    promisedMib += Math.max(0, amounts.memoryMib - seenMib);
    const onDisk = seen?.hostId === host.id ? (facts.loads[machineId]?.diskAllocatedBytes ?? 0) : 0;
    promisedBytes += Math.max(0, amounts.diskBytes - onDisk);
  }
  const unlimited = Number.MAX_SAFE_INTEGER;
  return {
    cpuPercent: unlimited,
    memoryMib: host.freeMemoryMib === undefined ? unlimited : host.freeMemoryMib - promisedMib,
    diskBytes: host.freeDiskBytes === undefined ? unlimited : host.freeDiskBytes - promisedBytes,
  };
}

function takenByHost(facts: Facts): Map<HostId, Map<MachineId, Amounts>> {
  const taken = new Map<HostId, Map<MachineId, Amounts>>();
  const count = (hostId: HostId, machineId: MachineId, amounts: Amounts) => {
    const onHost = taken.get(hostId) ?? new Map<MachineId, Amounts>();
    onHost.set(machineId, larger(onHost.get(machineId) ?? nothing, amounts));
    taken.set(hostId, onHost);
  };
  for (const machine of facts.machines) {
    const { effective } = machine;
    const diskBytes = diskBytesOf(facts, machine);
    const seen = facts.observed[machine.id];
    if (effective.hostId !== "") {
      // A balloon that has not deflated yet still holds its pages.
      const seenMib = seen?.hostId === effective.hostId && seen.running ? seen.memoryMib : 0;
      count(effective.hostId, machine.id, {
        cpuPercent: effective.cpuPercent,
        memoryMib: Math.max(effective.memoryMib, seenMib),
        diskBytes,
      });
    }
    if (seen?.running && seen.hostId !== effective.hostId) {
      count(seen.hostId, machine.id, {
        cpuPercent: seen.cpuPercent ?? effective.cpuPercent,
        memoryMib: Math.max(seen.memoryMib, seen.memoryTargetMib),
        diskBytes,
      });
    }
  }
  for (const held of facts.reservations) {
    if (held.hostId === "") continue;
    count(held.hostId, held.machineId, {
      cpuPercent: held.cpuPercent,
      memoryMib: held.memoryMib,
      diskBytes: held.diskBytes,
    });
  }
  return taken;
}
