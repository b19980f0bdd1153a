/**
 * What each machine and link of a request is now, and what it should become. Pure: reads a request and facts, knows no
 * hosts' room. Here stands what each kind of request means for sizes; where machines go is assignment.ts.
 */
import type { Facts, ObservedMachine } from "#model/facts";
import {
  defaultCpuWeight,
  type LinkRecord,
  type MachineRecord,
  type MachineSpec,
  type NicSpec,
  type Sizing,
} from "#model/objects";
import type { MachineAsk, Request } from "#model/request";
import type { HostId, Mbps, SiteId, VolumeId } from "#model/units";
import { hasCards, unplugged } from "#planner/cards";

export const sizingAttributes = ["vcpus", "cpuPercent", "memoryMib"] as const;
export type SizingAttribute = (typeof sizingAttributes)[number];

export interface Target {
  readonly machine: MachineRecord;
  /** What it has: observed where a host answers, so that drift is put right too, else effective. */
  readonly live: Sizing;
  /** What it should have; equal to `effective` in every attribute that the request leaves alone. */
  readonly wanted: Sizing;
  /** The attributes that the request is about; drift of others is left for an update or a repair to put right. */
  readonly touched: readonly SizingAttribute[];
  /** What its weight is to become; absent: it stays. */
  readonly cpuWeight?: { readonly from: number; readonly to: number };
  /** The site it must be at; undefined = wherever it may live. */
  readonly siteId: SiteId | undefined;
  /** The host it must be on; undefined = any. */
  readonly hostId?: HostId | undefined;
  /** A move that names no site: anywhere but where it is. */
  readonly leaves?: true;
  /** It is to be destroyed. */
  readonly remove?: true;
  /** It is to be started anew, with its specification as the request leaves it. */
  readonly restart?: true;
  /** The cards that it is to have; absent: those it has. */
  readonly networks?: readonly NicSpec[];
  /** Data volumes of the specification that a start would use. */
  readonly disks: readonly VolumeId[];
  /** What it reaches without a restart, or after the one that is asked for. */
  readonly ceiling: { readonly vcpus: number; readonly memoryMib: number };
}
export interface LinkTarget {
  readonly link: LinkRecord;
  readonly liveMbps: Mbps;
  readonly wantedMbps: Mbps;
}

/** A balloon stops within a page of its target: this much is no difference (DESIGN 8, settling). */
export const memoryToleranceMib = 1;

/** What a machine has to reach without a restart: its word, else the upper ends of its envelope; at least its baseline. */
export function ceilingOf(spec: MachineSpec): { vcpus: number; memoryMib: number } {
  return {
    vcpus: Math.max(spec.baseline.vcpus, spec.ceiling?.vcpus ?? spec.envelope.vcpus?.max ?? 0),
    memoryMib: Math.max(
      spec.baseline.memoryMib,
      spec.ceiling?.memoryMib ?? spec.envelope.memoryMib?.max ?? 0,
    ),
  };
}

/** Machines asked for, in the order of their names; ids that facts do not know are left out. */
export function targetsOf(request: Request, facts: Facts): readonly Target[] {
  return request.machines
    .flatMap((ask) => {
      const machine = facts.machines.find((candidate) => candidate.id === ask.machineId);
      return machine === undefined ? [] : [{ ask, machine }];
    })
    .map(({ ask, machine }) => {
      const live = liveSizing(machine, facts.observed[machine.id]);
      const granted = sizingOf(machine.effective);
      const { baseline } = machine.spec;
      const { disks, networks } = specOf(request, machine);
      const recarded =
        request.kind === "update" &&
        (!hasCards(machine.effective.nics, networks) ||
          unplugged(machine, facts.observed[machine.id]).length > 0);
      const common = {
        machine,
        disks: disks ?? [],
        ceiling:
          ask.restart === true ? restartedCeiling(request, machine) : machine.effective.ceiling,
        ...(ask.remove === true ? { remove: true as const } : {}),
        ...(ask.restart === true ? { restart: true as const } : {}),
        ...(recarded ? { networks } : {}),
      };
      if (machine.effective.hostId === "" && machine.version === 0) {
        return {
          ...common,
          live: { vcpus: 0, cpuPercent: 0, memoryMib: 0 },
          wanted: askedOver(ask, baseline),
          touched: sizingAttributes,
          // What guests add may live wherever its envelope lets it.
          siteId: request.kind === "scale" ? ask.siteId : (ask.siteId ?? baseline.siteId),
          ...atHost(ask),
        };
      }
      switch (request.kind) {
        case "create":
          return {
            ...common,
            live: { vcpus: 0, cpuPercent: 0, memoryMib: 0 },
            wanted: askedOver(ask, baseline),
            touched: sizingAttributes,
            siteId: ask.siteId ?? baseline.siteId,
            ...atHost(ask),
          };
        case "release": {
          const touched = sizingAttributes.filter(
            (attribute) => Math.max(live[attribute], granted[attribute]) > baseline[attribute],
          );
          const lowered = Object.fromEntries(
            touched.map((attribute) => [attribute, baseline[attribute]]),
          );
          const wanted = askedOver(lowered, granted);
          return { ...common, live, wanted, touched, siteId: undefined };
        }
        case "repair":
          return {
            ...common,
            ...weightChange(machine, facts, machine.effective.cpuWeight ?? defaultCpuWeight),
            live,
            wanted: granted,
            touched: sizingAttributes,
            siteId: undefined,
          };
        default:
          return {
            ...common,
            ...weightChange(machine, facts, ask.cpuWeight),
            live,
            wanted: askedOver(ask, granted),
            touched: sizingAttributes.filter((attribute) => ask[attribute] !== undefined),
            siteId: ask.siteId,
            ...atHost(ask),
            ...(request.kind === "move" && ask.siteId === undefined && ask.hostId === undefined
              ? { leaves: true as const }
              : {}),
          };
      }
    })
    .toSorted((left, right) => compareText(left.machine.key, right.machine.key));
}

function atHost({ hostId }: MachineAsk): Pick<Target, "hostId"> {
  return hostId === undefined ? {} : { hostId };
}

/** Data volumes that a running machine has open, and takes with it wherever it goes. */
export function travelling({ effective }: MachineRecord): readonly VolumeId[] {
  return effective.started?.disks ?? [];
}

/** The specification as the request leaves it. */
export function specOf(request: Request, machine: MachineRecord): MachineSpec {
  const declared = request.declares?.machines?.find(({ id }) => id === machine.id);
  if (declared !== undefined) return declared.spec;
  const isAsked = request.machines.some(({ machineId }) => machineId === machine.id);
  return isAsked && request.update !== undefined ? request.update.spec : machine.spec;
}

/** Never below what it has: a start that took it away would fail or shrink the guest. */
function restartedCeiling(request: Request, machine: MachineRecord) {
  const { effective } = machine;
  const ceiling = ceilingOf(specOf(request, machine));
  return {
    vcpus: Math.max(ceiling.vcpus, effective.vcpus),
    memoryMib: Math.max(ceiling.memoryMib, effective.memoryMib),
  };
}

export function linkTargetsOf(request: Request, facts: Facts): readonly LinkTarget[] {
  return request.links
    .flatMap((ask) => {
      const link = facts.links.find((candidate) => candidate.id === ask.linkId);
      if (link === undefined) return [];
      const liveMbps = link.effective.rateMbps;
      // A group's own links follow its number of machines, also on the way back.
      const lowers = request.kind === "release" && link.spec.group === undefined;
      const wantedMbps = lowers ? Math.min(liveMbps, link.spec.rateMbps) : ask.rateMbps;
      // A new link's record already shows its rate; nothing of it is in force on a host yet.
      return [{ link, liveMbps: request.kind === "create" ? 0 : liveMbps, wantedMbps }];
    })
    .toSorted((left, right) => compareText(left.link.key, right.link.key));
}

/**
 * What a machine has now. An answer from another host than its own, or of a stopped domain, does not count. A balloon on
 * its way to the granted size counts as there. A machine without a cap has all of its vCPUs.
 */
export function liveSizing(machine: MachineRecord, seen: ObservedMachine | undefined): Sizing {
  const granted = sizingOf(machine.effective);
  if (seen === undefined || !seen.running || seen.hostId !== machine.effective.hostId)
    return granted;
  return {
    vcpus: seen.vcpus,
    cpuPercent: seen.cpuPercent ?? seen.vcpus * 100,
    memoryMib: liveMemoryMib(machine, seen),
  };
}

/** The weight that a machine has now; what its host last said of it counts as for sizes. */
export function liveCpuWeight(machine: MachineRecord, seen: ObservedMachine | undefined): number {
  const { effective } = machine;
  const counts = seen !== undefined && seen.running && seen.hostId === effective.hostId;
  return (counts ? seen.cpuWeight : effective.cpuWeight) ?? defaultCpuWeight;
}

function weightChange(
  machine: MachineRecord,
  facts: Facts,
  to: number | undefined,
): Pick<Target, "cpuWeight"> {
  if (to === undefined) return {};
  const live = liveCpuWeight(machine, facts.observed[machine.id]);
  const journaled = machine.effective.cpuWeight ?? defaultCpuWeight;
  // Live as wanted, but not written down so: the step has nothing to do but that.
  return live === to && journaled === to ? {} : { cpuWeight: { from: live, to } };
}

/** True when the guest has its granted memory: what was settling has ended. */
export function hasSettled(machine: MachineRecord, seen: ObservedMachine): boolean {
  return isNear(seen.memoryMib, machine.effective.memoryMib);
}

function liveMemoryMib({ effective }: MachineRecord, seen: ObservedMachine): number {
  const { memoryMib: grantedMib, settlingFromMib: fromMib } = effective;
  // Somebody asked for something else.
  if (!isNear(seen.memoryTargetMib, grantedMib)) return seen.memoryTargetMib;
  if (isNear(seen.memoryMib, grantedMib)) return grantedMib;
  // The guest has something else than was asked: on its way, or changed by somebody who left the target alone.
  const onItsWay =
    fromMib !== undefined &&
    seen.memoryMib >= Math.min(fromMib, grantedMib) - memoryToleranceMib &&
    seen.memoryMib <= Math.max(fromMib, grantedMib) + memoryToleranceMib;
  return onItsWay ? grantedMib : seen.memoryMib;
}

function isNear(oneMib: number, otherMib: number): boolean {
  return Math.abs(oneMib - otherMib) <= memoryToleranceMib;
}

export function sizingOf(from: Sizing): Sizing {
  return { vcpus: from.vcpus, cpuPercent: from.cpuPercent, memoryMib: from.memoryMib };
}

function askedOver(ask: Partial<Sizing>, otherwise: Sizing): Sizing {
  return {
    vcpus: ask.vcpus ?? otherwise.vcpus,
    cpuPercent: ask.cpuPercent ?? otherwise.cpuPercent,
    memoryMib: ask.memoryMib ?? otherwise.memoryMib,
  };
}

/** By code unit, never by locale: the same order everywhere. */
export function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
