/**
 * The sites of policy's input: what owners lend there, what is taken and by whom, and what holds. Pure; knows no rule.
 * Numbers add up to what the planner counts as taken (planner/room.ts).
 */
import type { Facts, Hold as HoldFact, HostFacts } from "#model/facts";
import type { EnvironmentRecord, MachineRecord } from "#model/objects";
import type { MachineId } from "#model/units";
import { roomOf } from "#planner/room";
import { compareText } from "#planner/target";
import { ageOf } from "#policy/ages";
import { holdOn } from "#policy/hold";
import { sharesOf } from "#policy/holdings";
import { noHold, type PolicyHold, type PolicyHost, type PolicyInput } from "#policy/input";

const bytesPerGib = 2 ** 30;

/** The environment's sites and those where its machines are; other owners' sites are nobody's business here. */
export function sitesOf(
  facts: Facts,
  environment: EnvironmentRecord,
  machines: readonly MachineRecord[],
): PolicyInput["sites"] {
  const concerned = new Set([
    ...environment.spec.sites,
    ...machines.map(({ effective }) => effective.siteId),
    ...machines.map(({ spec }) => spec.baseline.siteId),
  ]);
  const rooms = roomOf(facts);
  // each host's are looked up in it: a search in the list would be the square of the fleet
  const all = new Map(facts.machines.map((machine) => [machine.id, machine]));
  return facts.sites
    .filter(({ id }) => concerned.has(id))
    .toSorted((left, right) => compareText(left.id, right.id))
    .map((site) => ({
      id: site.id,
      view: "whole",
      owner: site.owner,
      age_ms: Math.max(0, ...site.hosts.map((host) => ageOf(host, facts))),
      hold: holdOf(holdOn(facts.holds, { siteId: site.id }, facts.nowMs)),
      hosts: site.hosts
        .toSorted((left, right) => compareText(left.id, right.id))
        .map((host) => hostOf(host, facts, { takenBy: rooms.get(host.id)?.takenBy, all })),
      shares: sharesOf(site, facts, rooms),
    }));
}

function hostOf(host: HostFacts, facts: Facts, { takenBy, all }: Taken): PolicyHost {
  const taken = { cpu_percent: 0, memory_mib: 0, disk_gib: 0 };
  const here = {
    cpu_percent: host.foreign.cpuPercent,
    memory_mib: host.foreign.memoryMib,
    disk_gib: 0,
  };
  for (const [machineId, amounts] of takenBy ?? []) {
    const diskGib = Math.ceil(amounts.diskBytes / bytesPerGib);
    taken.cpu_percent += amounts.cpuPercent;
    taken.memory_mib += amounts.memoryMib;
    taken.disk_gib += diskGib;
    const machine = all.get(machineId);
    if (machine?.effective.hostId !== host.id) continue;
    here.cpu_percent += Math.min(machine.effective.cpuPercent, amounts.cpuPercent);
    here.memory_mib += Math.min(machine.effective.memoryMib, amounts.memoryMib);
    here.disk_gib += diskGib;
  }
  return {
    id: host.id,
    state: host.state,
    age_ms: ageOf(host, facts),
    lend: {
      cpu_percent: host.lend.cpuPercent,
      memory_mib: host.lend.memoryMib,
      disk_gib: host.lend.diskGib,
    },
    used: here,
    reserved: {
      cpu_percent: taken.cpu_percent + host.foreign.cpuPercent - here.cpu_percent,
      memory_mib: taken.memory_mib + host.foreign.memoryMib - here.memory_mib,
      disk_gib: taken.disk_gib - here.disk_gib,
    },
    free: {
      memory_mib: Math.max(0, Math.floor(host.freeMemoryMib ?? 0)),
      disk_gib: Math.max(0, Math.floor((host.freeDiskBytes ?? 0) / bytesPerGib)),
    },
  };
}

interface Taken {
  readonly takenBy:
    | ReadonlyMap<string, { cpuPercent: number; memoryMib: number; diskBytes: number }>
    | undefined;
  readonly all: ReadonlyMap<MachineId, MachineRecord>;
}

/** Always whole: an inactive one where nothing holds. */
export function holdOf(hold: HoldFact | undefined): PolicyHold {
  if (hold === undefined) return noHold;
  return {
    active: true,
    by: hold.by,
    reason: hold.reason,
    since_ms: hold.sinceMs,
    until_ms: hold.untilMs ?? 0,
  };
}
