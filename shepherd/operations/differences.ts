/**
 * What a host holds against what the journal says, classified, each with the answer that the rules give. Pure: sees
 * records and one host's answers. Litter is only what carries our mark, what no record and no unfinished operation
 * claims, and what does not run; everything else that differs is told to people, or is for repair.
 */
import type { LitterItem } from "#model/plan";
import type { HostId, MachineId, VolumeId } from "#model/units";
import type { ObservedDomain, PartialVolume, VolumeInfo } from "#ports/host";
import type { NetworkDifference } from "#ports/host-network";

/**
 * half_done: an unfinished operation is at it. foreign_change: somebody else did it. lost_object: the journal has it, the
 * host does not. double: it runs here and at its own host. litter: left over, nobody's.
 */
export type DifferenceClass =
  | "half_done"
  | "foreign_change"
  | "lost_object"
  | "double"
  | "litter"
  | "network";
/** wait: its operation will. repair: applied by the built-in grant. janitor: removed when a person says so. alert: a person looks. */
export type DifferenceAnswer = "wait" | "repair" | "janitor" | "alert";

export interface Difference {
  readonly hostId: HostId;
  readonly class: DifferenceClass;
  readonly answer: DifferenceAnswer;
  /** `domain drover-ring-rank-0`, `volume drover-….qcow2`, `port dv-…`. */
  readonly object: string;
  readonly machineId?: MachineId | undefined;
  /** For people. */
  readonly detail: string;
  /** What the janitor would remove. */
  readonly litter?: LitterItem | undefined;
}

export interface HostHolds {
  readonly hostId: HostId;
  readonly domains: readonly ObservedDomain[];
  readonly volumes: readonly VolumeInfo[];
  /** Files that are not whole. */
  readonly partial?: readonly PartialVolume[] | undefined;
  readonly network: readonly NetworkDifference[];
}

export interface KnownObjects {
  /** Machines of the journal: where they are, and what the journal calls them. */
  readonly machines: ReadonlyMap<
    MachineId,
    { readonly key: string; readonly hostId: HostId; readonly state: string }
  >;
  /** Machines that an unfinished or stuck operation is at. */
  readonly busy: ReadonlySet<MachineId>;
  /** Names of files that every host may have: image parts. */
  readonly claimedVolumes: ReadonlySet<string>;
  /** Data volumes by the names of their files. */
  readonly dataVolumes: ReadonlyMap<string, KnownVolume>;
  /** Where each machine was last seen running. */
  readonly runsAt: ReadonlyMap<MachineId, readonly HostId[]>;
}

/** A data volume of the journal, which lies on one host; a file of that name elsewhere is what a move has left. */
export interface KnownVolume {
  readonly id: VolumeId;
  readonly hostId: HostId;
  /** That host has said that it has the file. */
  readonly isThere: boolean;
  /** An unfinished or stuck operation is at a machine that has it. */
  readonly isBusy: boolean;
}

/** A machine's own layer and an image's part; other names are not ours to judge. */
const layerName = /^drover-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.qcow2$/;
const partName = /^drover-[0-9a-f]{64}\.(qcow2|kernel|initrd)$/;

export function differencesOf(host: HostHolds, known: KnownObjects): readonly Difference[] {
  return [
    ...host.domains.filter(({ ours }) => ours !== undefined).flatMap((d) => domain(host, d, known)),
    ...lost(host, known),
    ...host.volumes.flatMap((v) => volume(host, v, known)),
    ...host.network.map(
      ({ object, problem, detail }): Difference => ({
        hostId: host.hostId,
        class: "network",
        answer: "repair",
        object,
        detail: `${problem}${detail === "" ? "" : `: ${detail}`}`,
      }),
    ),
  ];
}

function domain(
  { hostId }: HostHolds,
  seen: ObservedDomain,
  known: KnownObjects,
): readonly Difference[] {
  const record = known.machines.get(seen.id);
  const base = { hostId, object: `domain ${seen.name}`, machineId: seen.id };
  if (known.busy.has(seen.id)) {
    return record?.hostId === hostId && seen.state === "running"
      ? []
      : [{ ...base, class: "half_done", answer: "wait", detail: `${seen.state}; in an operation` }];
  }
  const runs = seen.state === "running";
  if (record === undefined) {
    if (runs) {
      const detail = "runs with our mark, and the journal does not know it: an older journal's?";
      return [{ ...base, class: "foreign_change", answer: "alert", detail }];
    }
    return [litter(base, `${seen.state}, and no record claims it`, "domain", seen.id, "unknown")];
  }
  if (record.hostId === hostId) {
    if (runs || record.state === "failed") return [];
    const detail = `${seen.state}, the journal says ${record.state}`;
    return [{ ...base, class: "foreign_change", answer: "alert", detail }];
  }
  const atHome = known.runsAt.get(seen.id)?.includes(record.hostId) === true;
  if (runs) {
    return atHome
      ? [{ ...base, class: "double", answer: "alert", detail: `runs at ${record.hostId} too` }]
      : [
          {
            ...base,
            class: "foreign_change",
            answer: "alert",
            detail: `runs here, the journal says ${record.hostId}`,
          },
        ];
  }
  if (!atHome) {
    const detail = `${seen.state} here, and ${record.hostId} has not said that it runs there`;
    return [{ ...base, class: "foreign_change", answer: "alert", detail }];
  }
  return [
    litter(base, `${seen.state}; it runs at ${record.hostId}`, "domain", seen.id, "elsewhere"),
  ];
}

function lost({ hostId, domains }: HostHolds, known: KnownObjects): readonly Difference[] {
  const here = new Set(domains.map(({ id }) => id));
  return [...known.machines]
    .filter(
      ([id, record]) =>
        record.hostId === hostId &&
        record.state !== "failed" &&
        !here.has(id) &&
        !known.busy.has(id),
    )
    .map(([id, record]) => ({
      hostId,
      class: "lost_object" as const,
      answer: "alert" as const,
      object: `machine ${record.key}`,
      machineId: id,
      detail: `the journal says ${record.state}, the host has no such domain`,
    }));
}

function volume(host: HostHolds, { name }: VolumeInfo, known: KnownObjects): readonly Difference[] {
  const { hostId } = host;
  if (known.claimedVolumes.has(name)) return [];
  const data = known.dataVolumes.get(name);
  if (data !== undefined) return copyOf(host, name, data);
  if (partName.test(name)) {
    const used = host.volumes.some(({ backing }) => backing === name);
    const base = { hostId, object: `volume ${name}` };
    return used
      ? [{ ...base, class: "foreign_change", answer: "alert", detail: "a disk still stands on it" }]
      : [litter(base, "no image has this part", "volume", name, "unknown")];
  }
  const machineId = layerName.exec(name)?.[1];
  if (machineId === undefined) return [];
  const base = { hostId, object: `volume ${name}`, machineId };
  if (known.busy.has(machineId)) return [];
  // Whoever has a domain here may be using it; the domain is what to look at first.
  const used = host.domains.some(({ id, state }) => id === machineId && state !== "shut_off");
  const record = known.machines.get(machineId);
  if (used || record?.hostId === hostId) return [];
  if (record === undefined) {
    return [litter(base, "no record claims it", "volume", name, "unknown")];
  }
  if (known.runsAt.get(machineId)?.includes(record.hostId) !== true) return [];
  return [litter(base, `its machine runs at ${record.hostId}`, "volume", name, "elsewhere")];
}

function copyOf(
  { hostId, domains }: HostHolds,
  name: string,
  { id, hostId: home, isThere, isBusy }: KnownVolume,
): readonly Difference[] {
  if (home === hostId || home === "" || isBusy) return [];
  const base = { hostId, object: `volume ${name}` };
  const used = domains.some(({ diskVolumes = [] }) => diskVolumes.includes(name));
  if (used || !isThere) {
    const detail = used
      ? `a domain uses it, the journal says that the volume lies on ${home}`
      : `the journal says ${home}, which has not said that it has the volume`;
    return [{ ...base, class: "foreign_change", answer: "alert", detail }];
  }
  const left = litter(base, `the volume lies on ${home}`, "volume", name, "elsewhere");
  return [{ ...left, litter: left.litter && { ...left.litter, volumeId: id } }];
}

function litter(
  base: Pick<Difference, "hostId" | "object" | "machineId">,
  detail: string,
  kind: LitterItem["kind"],
  id: string,
  because: LitterItem["because"],
): Difference {
  return {
    ...base,
    class: "litter",
    answer: "janitor",
    detail,
    litter: { kind, id, because, machineId: base.machineId },
  };
}
