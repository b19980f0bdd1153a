/**
 * Groups: machines of one template that scale together. What a group of so many machines consists of, and what a change
 * of their number means: which machines come and go, which links follow its topology. Pure; ids are the caller's to give.
 * The stack's own machines are a floor: a guest adds on top of it, and takes away what guests added.
 */
import {
  type AdaptationMode,
  type EnvironmentRecord,
  type EnvironmentSpec,
  envelopeOf,
  type GroupRecord,
  type GroupSpec,
  type LinkRecord,
  type LinkSpec,
  type MachineRecord,
  type MachineSpec,
  nameOfLink,
  type Topology,
} from "#model/objects";
import type { Declared, LinkAsk, MachineAsk } from "#model/request";
import { compareText } from "#planner/target";

/** What a request has to say so that a group becomes what it is to be. */
export interface GroupChange {
  readonly machines: readonly MachineAsk[];
  readonly links: readonly LinkAsk[];
  readonly declares: Declared;
}

export interface GroupScope {
  readonly environment: EnvironmentRecord;
  /** All machines and links of the environment. */
  readonly machines: readonly MachineRecord[];
  readonly links: readonly LinkRecord[];
  readonly newId: () => string;
}

export function memberName(group: string, index: number): string {
  return `${group}-${index}`;
}

/** Undefined: no member of that group by its name. */
export function memberIndex(group: string, name: string): number | undefined {
  const text = name.startsWith(`${group}-`) ? name.slice(group.length + 1) : "";
  return /^(0|[1-9]\d{0,6})$/.test(text) ? Number(text) : undefined;
}

/** Machines of the group, by index; those of its name that somebody declared one by one are not there. */
export function membersOf(
  group: Pick<GroupSpec, "environmentId" | "name">,
  machines: readonly MachineRecord[],
): readonly MachineRecord[] {
  return machines
    .filter(
      ({ spec, effective }) =>
        spec.environmentId === group.environmentId &&
        spec.group === group.name &&
        memberIndex(group.name, spec.name) !== undefined &&
        effective.state !== "destroying",
    )
    .toSorted(
      (left, right) =>
        (memberIndex(group.name, left.spec.name) ?? 0) -
        (memberIndex(group.name, right.spec.name) ?? 0),
    );
}

/** The specification of one member. A member beyond the baseline number is there because adaptation added it. */
export function memberSpec(
  group: GroupSpec,
  index: number,
  environment: EnvironmentRecord,
): MachineSpec {
  const { template } = group;
  return {
    ...template,
    environmentId: group.environmentId,
    name: memberName(group.name, index),
    group: group.name,
    speaker: index === group.speaker,
    envelope: envelopeOf(template.declared, environment.spec.adaptation),
    networks: template.networks.map(({ networkId }) => ({ networkId })),
    origin: index < group.machineCount ? "stack" : "adaptation",
  };
}

/** The pairs of a topology over these names, each pair sorted. */
export function topologyPairs(
  topology: Topology,
  names: readonly string[],
): readonly (readonly [string, string])[] {
  const pair = (left: number, right: number): readonly [string, string] => {
    const [one, other] = [names[left] ?? "", names[right] ?? ""].toSorted(compareText);
    return [one ?? "", other ?? ""];
  };
  const last = names.length - 1;
  if (last < 1) return [];
  switch (topology) {
    case "none":
      return [];
    case "star":
      return names.slice(1).map((_, index) => pair(0, index + 1));
    case "mesh":
      return names.flatMap((_, left) =>
        names.slice(left + 1).map((__, offset) => pair(left, left + 1 + offset)),
      );
    case "ring": {
      const along = names.slice(1).map((_, index) => pair(index, index + 1));
      return last === 1 ? along : [...along, pair(last, 0)];
    }
  }
}

/**
 * What makes a group of `spec` with `machineCount` machines out of what is there: members are added at the lowest free
 * indices and leave from the highest; links of its topology follow.
 */
export function changeGroup(spec: GroupSpec, machineCount: number, scope: GroupScope): GroupChange {
  const members = membersOf(spec, scope.machines);
  const kept = members.slice(0, machineCount);
  const gone = members.slice(machineCount);
  const taken = new Set(kept.map((member) => memberIndex(spec.name, member.spec.name)));
  const added: { readonly id: string; readonly spec: MachineSpec }[] = [];
  for (let index = 0; kept.length + added.length < machineCount; index++) {
    if (taken.has(index)) continue;
    added.push({ id: scope.newId(), spec: memberSpec(spec, index, scope.environment) });
  }
  const names = [...kept, ...added].map((member) => member.spec.name);
  const byIndex = names.toSorted(
    (left, right) => (memberIndex(spec.name, left) ?? 0) - (memberIndex(spec.name, right) ?? 0),
  );
  const leaving = new Set(gone.map((member) => member.spec.name));
  const links = changeLinks(spec, { names: byIndex, leaving }, scope);
  return {
    machines: [
      // One that never came to a host is tried again with the others.
      ...kept
        .filter(({ effective }) => effective.hostId === "")
        .map(({ id, spec: { baseline } }) => ({ machineId: id, ...baseline })),
      ...added.map(({ id, spec: { baseline, origin } }) => {
        const { siteId, ...sizing } = baseline;
        return { machineId: id, ...sizing, ...(origin === "stack" ? { siteId } : {}) };
      }),
      ...gone.map(({ id }) => ({ machineId: id, remove: true as const })),
    ],
    links: links.asks,
    declares: { machines: added, links: links.declared },
  };
}

/** Links that a topology wants and that are not there come; those of the group that it does not want go. */
function changeLinks(
  spec: GroupSpec,
  { names, leaving }: { readonly names: readonly string[]; readonly leaving: ReadonlySet<string> },
  scope: GroupScope,
): {
  readonly asks: readonly LinkAsk[];
  readonly declared: readonly { readonly id: string; readonly spec: LinkSpec }[];
} {
  const wanted = new Map(
    topologyPairs(spec.topology, names).map((pair) => [pair.join("--"), pair] as const),
  );
  const asks: LinkAsk[] = [];
  const declared: { readonly id: string; readonly spec: LinkSpec }[] = [];
  for (const link of scope.links) {
    const name = nameOfLink(link.spec);
    const isWanted = wanted.delete(name);
    const isLoose =
      link.spec.origin === "adaptation" &&
      link.spec.machines.some((end) => end !== undefined && leaving.has(end));
    // What a guest had linked to a machine that leaves has lost its other end.
    if (isLoose) asks.push({ linkId: link.id, rateMbps: 0 });
    if (link.spec.group !== spec.name || isLoose) continue;
    if (!isWanted) asks.push({ linkId: link.id, rateMbps: 0 });
    else if (link.spec.rateMbps !== spec.topologyRateMbps) {
      asks.push({ linkId: link.id, rateMbps: spec.topologyRateMbps });
      declared.push({ id: link.id, spec: { ...link.spec, rateMbps: spec.topologyRateMbps } });
    }
  }
  for (const machines of wanted.values()) {
    const id = scope.newId();
    declared.push({
      id,
      spec: {
        environmentId: spec.environmentId,
        machines,
        rateMbps: spec.topologyRateMbps,
        group: spec.name,
      },
    });
    asks.push({ linkId: id, rateMbps: spec.topologyRateMbps });
  }
  return { asks, declared };
}

/** How its number of machines adapts: its own word, else its environment's. */
export function groupMode(
  group: Pick<GroupSpec, "mode">,
  environment: Pick<EnvironmentSpec, "adaptation"> | undefined,
): AdaptationMode {
  return group.mode ?? environment?.adaptation?.mode ?? "auto";
}

/** The number of machines that guests may scale a group to; undefined: the number does not adapt. */
export function scaleBounds(
  { spec }: Pick<GroupRecord, "spec">,
  environment: Pick<EnvironmentSpec, "adaptation"> | undefined,
): { readonly min: number; readonly max: number } | undefined {
  const { machineCount, machineCounts } = spec;
  if (machineCounts === undefined || groupMode(spec, environment) === "pinned") return undefined;
  return { min: Math.max(machineCounts.min, machineCount), max: machineCounts.max };
}
