/**
 * Who holds how much, for rules about quotas and fairness: per machine, per owner, per environment at a site. Running
 * operations count with what they have reserved, so that two growths at once cannot both fit into the same rest.
 * Pure; knows no rule. Shares of a site count as the planner does (planner/room.ts), quotas what was granted.
 */
import type { Facts, RecentMove, SiteFacts } from "#model/facts";
import type { EnvironmentRecord, MachineRecord } from "#model/objects";
import type { EnvironmentId, HostId, MachineId } from "#model/units";
import { diskBytesOf, type HostRoom } from "#planner/room";
import { compareText } from "#planner/target";
import type { PolicyInput, PolicyMoving, PolicyShare, PolicySite } from "#policy/input";

const bytesPerGib = 2 ** 30;

/** What a machine was granted, or what a running operation has reserved for it at one host when that is more. */
export function heldBy(
  machine: MachineRecord,
  facts: Facts,
): { cpu_percent: number; memory_mib: number } {
  const isPlaced = machine.effective.hostId !== "";
  const own = reservationsOf(facts).get(machine.id) ?? [];
  return {
    cpu_percent: Math.max(
      isPlaced ? machine.effective.cpuPercent : 0,
      ...own.map(({ cpuPercent }) => cpuPercent),
    ),
    memory_mib: Math.max(
      isPlaced ? machine.effective.memoryMib : 0,
      ...own.map(({ memoryMib }) => memoryMib),
    ),
  };
}

/** Asked for each machine of an owner: grouped once for all of them. */
const grouped = new WeakMap<Facts["reservations"], ReadonlyMap<MachineId, Facts["reservations"]>>();

function reservationsOf({ reservations }: Facts): ReadonlyMap<MachineId, Facts["reservations"]> {
  const known = grouped.get(reservations);
  if (known !== undefined) return known;
  const made = Map.groupBy(reservations, ({ machineId }) => machineId);
  grouped.set(reservations, made);
  return made;
}

/** What moves under way hold at their destinations, of these environments. */
export function movingOf(environmentIds: ReadonlySet<EnvironmentId>, facts: Facts): PolicyMoving {
  const machines = new Map(
    facts.machines
      .filter(({ spec }) => environmentIds.has(spec.environmentId))
      .map((machine) => [machine.id, machine]),
  );
  const moving = { machines: 0, cpu_percent: 0, memory_mib: 0, disk_gib: 0 };
  for (const { machineId, hostId, cpuPercent, memoryMib, diskBytes } of facts.reservations) {
    const home = machines.get(machineId)?.effective.hostId;
    if (home === undefined || home === "" || home === hostId) continue;
    moving.machines += 1;
    moving.cpu_percent += cpuPercent;
    moving.memory_mib += memoryMib;
    moving.disk_gib += Math.ceil(diskBytes / bytesPerGib);
  }
  return moving;
}

/** The owner of this environment, over all that is theirs. */
export function ownerOf(environment: EnvironmentRecord, facts: Facts): PolicyInput["owner"] {
  const { owner } = environment.spec;
  const theirs = facts.environments.filter(({ spec }) => spec.owner === owner);
  const others = new Set(theirs.filter(({ id }) => id !== environment.id).map(({ id }) => id));
  const machines = facts.machines.filter(({ spec }) => others.has(spec.environmentId));
  const placed = machines
    .map((machine) => ({ machine, held: heldBy(machine, facts) }))
    .filter(({ held }) => held.memory_mib > 0);
  const total = (of: (one: (typeof placed)[number]) => number): number =>
    placed.reduce((sum, one) => sum + of(one), 0);
  return {
    name: owner,
    others: {
      environments: others.size,
      machines: placed.length,
      vcpus: total(({ machine }) => machine.effective.vcpus),
      cpu_percent: total(({ held }) => held.cpu_percent),
      memory_mib: total(({ held }) => held.memory_mib),
      disk_gib: total(({ machine }) => diskGibOf(machine, facts)),
      rate_mbps: facts.links
        .filter(({ spec }) => others.has(spec.environmentId))
        .reduce((sum, { effective }) => sum + effective.rateMbps, 0),
    },
    moving: movingOf(new Set([environment.id, ...others]), facts),
    moved_bytes: facts.moves
      .filter((move) => move.owner === owner)
      .reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** What each environment takes at a site; the ones that take nothing are left out. */
export function sharesOf(
  site: SiteFacts,
  facts: Facts,
  rooms: ReadonlyMap<HostId, HostRoom>,
): PolicySite["shares"] {
  const environmentOf = new Map(facts.machines.map(({ id, spec }) => [id, spec.environmentId]));
  const environments = new Map(facts.environments.map((one) => [one.id, one]));
  const shares = new Map<EnvironmentId, PolicyShare>();
  for (const { id } of site.hosts) {
    for (const [machineId, amounts] of rooms.get(id)?.takenBy ?? []) {
      const environmentId = environmentOf.get(machineId);
      const environment = environments.get(environmentId ?? "");
      if (environment === undefined) continue;
      const share = shares.get(environment.id) ?? {
        environment: environment.spec.name,
        owner: environment.spec.owner,
        machines: 0,
        cpu_percent: 0,
        memory_mib: 0,
        disk_gib: 0,
      };
      share.machines += 1;
      share.cpu_percent += amounts.cpuPercent;
      share.memory_mib += amounts.memoryMib;
      share.disk_gib += Math.ceil(amounts.diskBytes / bytesPerGib);
      shares.set(environment.id, share);
    }
  }
  const rows = [...shares.values()].toSorted((left, right) =>
    compareText(left.environment, right.environment),
  );
  return { total: rows.length, rows };
}

export function diskGibOf(machine: MachineRecord, facts: Facts): number {
  return Math.ceil(diskBytesOf(facts, machine) / bytesPerGib);
}

/** Rows of one environment that policy is shown; more than these in a day are no adaptation any more. */
const maxMoves = 512;

/** Its moves of the last day, oldest first. */
export function movesOf(
  environmentId: EnvironmentId,
  moves: readonly RecentMove[],
): PolicyInput["environment"]["moves"] {
  const rows = moves
    .filter((move) => move.environmentId === environmentId)
    .slice(-maxMoves)
    .map((move) => ({
      operation: move.operationId,
      at_ms: move.atMs,
      machine: move.machineName,
      cause: move.cause,
      from_site: move.fromSiteId,
      to_site: move.toSiteId,
      bytes: Math.round(move.bytes),
      downtime_ms: Math.round(move.downtimeMs),
      outcome: move.outcome,
    }));
  return { total: rows.length, rows };
}
