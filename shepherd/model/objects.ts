/**
 * What a user declares, and what is live: environments, networks, machines, links, images.
 * `spec` is the stack's word (baselines, envelopes); `effective` is what is in force now. Imports nothing but units.
 */
import type {
  AdaptationId,
  CpuPercent,
  EnvironmentId,
  HostId,
  ImageId,
  LinkId,
  MachineId,
  Mbps,
  Mib,
  Ms,
  NetworkId,
  SiteId,
} from "#model/units";

export interface EnvironmentSpec {
  readonly name: string;
  /** Who answers for it; the owner's policy bundle is chosen by this name. */
  readonly owner: string;
  /** Default class of its machines ("batch", "sensitive"). */
  readonly class: string;
  readonly sites: readonly SiteId[];
}
/** Nothing of an environment itself adapts. */
export type EnvironmentEffective = Readonly<Record<string, never>>;

export interface NetworkSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  /** IPv4 CIDR, private to the environment; another environment may use the same. */
  readonly cidr: string;
}
export interface NetworkEffective {
  /** VXLAN network identifier, unique over all environments, journaled at creation. */
  readonly vni: number;
  readonly mtu: number;
}

export interface ImageSpec {
  readonly name: string;
  /** Path of a file at the shepherd (an upload has become one). */
  readonly source: string;
  readonly sha256: string;
  /** Direct kernel boot: paths at the shepherd. Absent = the disk boots itself. */
  readonly kernel?: string | undefined;
  readonly initrd?: string | undefined;
  readonly cmdline?: string | undefined;
}
export interface ImageEffective {
  readonly sizeBytes: number;
  /** Virtual size of the qcow2. */
  readonly virtualBytes: number;
  readonly kernelSha256?: string | undefined;
  readonly initrdSha256?: string | undefined;
}

/** The three sizes of a machine that adapt in place. */
export interface Sizing {
  readonly vcpus: number;
  readonly cpuPercent: CpuPercent;
  readonly memoryMib: Mib;
}
export interface Baseline extends Sizing {
  readonly siteId: SiteId;
}
/** Inclusive bounds. */
export interface Range {
  readonly min: number;
  readonly max: number;
}
export type AdaptationMode = "auto" | "approve" | "advise" | "pinned";

/** The bounds that the stack allows adaptation to use. An absent range means: this attribute does not adapt. */
export interface Envelope {
  readonly mode: AdaptationMode;
  readonly vcpus?: Range | undefined;
  readonly cpuPercent?: Range | undefined;
  readonly memoryMib?: Range | undefined;
  /** Sites it may live at; absent = only the baseline's. */
  readonly sites?: readonly SiteId[] | undefined;
}
export interface NicSpec {
  readonly networkId: NetworkId;
  /** Absent: the lowest free address of the network is given and journaled. */
  readonly address?: string | undefined;
}
export interface StartFrom extends Sizing {
  readonly siteId: SiteId;
  readonly adaptationId: AdaptationId;
}
export interface MachineSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  readonly group?: string | undefined;
  /** May speak for its group: only it may ask with `group`. */
  readonly speaker: boolean;
  /** Absent: the environment's. */
  readonly class?: string | undefined;
  readonly imageId: ImageId;
  readonly baseline: Baseline;
  readonly envelope: Envelope;
  readonly networks: readonly NicSpec[];
  /** A still granted adaptation that a re-created machine starts from; used at create only, through the gate. */
  readonly startFrom?: StartFrom | undefined;
}
export interface Nic {
  readonly networkId: NetworkId;
  readonly address: string;
  readonly prefixLength: number;
  /** `52:54:00` + 3 bytes of a hash of (machine id, index). */
  readonly mac: string;
  /** Tap device name at whichever host it runs, at most 15 characters. */
  readonly tap: string;
}
export type MachineState =
  | "creating"
  | "running"
  | "stopped"
  | "moving"
  | "unknown"
  | "failed"
  | "destroying";

/** What the machine was booted able to reach without a restart. */
export interface Ceiling {
  readonly vcpus: number;
  readonly memoryMib: Mib;
}
export interface MachineEffective extends Sizing {
  readonly siteId: SiteId;
  readonly hostId: HostId;
  readonly state: MachineState;
  readonly ceiling: Ceiling;
  readonly nics: readonly Nic[];
  /** Memory last reached by the guest; between it and memoryMib the machine is settling, not drifting. */
  readonly settlingFromMib?: Mib | undefined;
  readonly adaptationId?: AdaptationId | undefined;
  readonly leaseUntilMs?: Ms | undefined;
  readonly reason?: string | undefined;
}

export interface LinkSpec {
  readonly environmentId: EnvironmentId;
  /** Two machine names of the environment, sorted. */
  readonly machines: readonly [string, string];
  readonly rateMbps: Mbps;
}
export interface LinkEffective {
  readonly rateMbps: Mbps;
  readonly adaptationId?: AdaptationId | undefined;
  readonly leaseUntilMs?: Ms | undefined;
}

interface ObjectTypes {
  environment: { id: EnvironmentId; spec: EnvironmentSpec; effective: EnvironmentEffective };
  network: { id: NetworkId; spec: NetworkSpec; effective: NetworkEffective };
  image: { id: ImageId; spec: ImageSpec; effective: ImageEffective };
  machine: { id: MachineId; spec: MachineSpec; effective: MachineEffective };
  link: { id: LinkId; spec: LinkSpec; effective: LinkEffective };
}
export type ObjectKind = keyof ObjectTypes;

/** One row of the journal's `objects`. */
export interface ObjectRecord<Kind extends ObjectKind> {
  readonly kind: Kind;
  readonly id: ObjectTypes[Kind]["id"];
  /** Natural key, unique per kind: `ring`, `<environment id>/lan`, `<environment id>/rank-0--rank-1`. */
  readonly key: string;
  /** Undefined for images and for the environment itself. */
  readonly environmentId: EnvironmentId | undefined;
  readonly spec: ObjectTypes[Kind]["spec"];
  readonly effective: ObjectTypes[Kind]["effective"];
  /** Counts every change of spec or effective, from 1. */
  readonly version: number;
  /** False until a read, update or delete has presented the id; PUT adopts an unclaimed object. */
  readonly claimed: boolean;
  readonly createdAtMs: Ms;
}
export type EnvironmentRecord = ObjectRecord<"environment">;
export type NetworkRecord = ObjectRecord<"network">;
export type ImageRecord = ObjectRecord<"image">;
export type MachineRecord = ObjectRecord<"machine">;
export type LinkRecord = ObjectRecord<"link">;
export type AnyObjectRecord = { [Kind in ObjectKind]: ObjectRecord<Kind> }[ObjectKind];

/** The class that policy sees: the machine's own, else its environment's. */
export function classOf(machine: MachineSpec, environment: EnvironmentSpec): string {
  return machine.class ?? environment.class;
}

/** Name of the libvirt domain; the mark by which humans find it. */
export function domainName(environmentName: string, machineName: string): string {
  return `drover-${environmentName}-${machineName}`;
}
