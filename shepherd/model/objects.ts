/**
 * What a user declares, and what is live: environments, networks, machines, links, images.
 * `spec` is the stack's word (baselines, envelopes); `effective` is what is in force now. Imports nothing but units.
 */
import type { Lend } from "#model/site";
import type {
  AdaptationId,
  ConstraintId,
  CpuPercent,
  EnvironmentId,
  ForecastId,
  GroupId,
  HostId,
  ImageId,
  LinkId,
  MachineId,
  Mbps,
  Mib,
  Ms,
  NetworkId,
  SiteId,
  VolumeId,
} from "#model/units";

export interface EnvironmentSpec {
  readonly name: string;
  /** Who answers for it; the owner's policy bundle is chosen by this name. */
  readonly owner: string;
  /** Default class of its machines ("batch", "sensitive"). */
  readonly class: string;
  readonly sites: readonly SiteId[];
  /** What its machines inherit, and what guests may add to its links. */
  readonly adaptation?: EnvironmentAdaptation | undefined;
}
/** Defaults; a machine's own word goes before it, attribute by attribute. */
export interface EnvironmentAdaptation extends AdaptationWord {
  /** Absent: guests add no links. */
  readonly links?: { readonly maxAdded: number; readonly rateMbps: Range } | undefined;
}
/** Nothing of an environment itself adapts. */
export type EnvironmentEffective = Readonly<Record<string, never>>;

export interface NetworkSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  /** IPv4 CIDR, private to the environment; another environment may use the same. */
  readonly cidr: string;
  /** As declared; absent: given at admission. */
  readonly mtu?: number | undefined;
  readonly gateway?: NetworkGateway | undefined;
}
/** A way out of a LAN at its first address. It stays where it is, so that connections through it survive moves. */
export interface NetworkGateway {
  readonly siteId: SiteId;
  /** Leads out of its host as well, under the host's own address. */
  readonly nat: boolean;
}
export interface NetworkEffective {
  /** VXLAN network identifier, unique over all environments, journaled at creation. */
  readonly vni: number;
  readonly mtu: number;
  /** Where DHCP and DNS are reached; absent: the network has none. */
  readonly serviceAddress?: string | undefined;
  /** DNS domain of the environment's names. */
  readonly domain?: string | undefined;
  /** The host that holds the gateway, from its admission on. */
  readonly gatewayHostId?: HostId | undefined;
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
/** Whose turn it is where more is wanted than there is: against others of its host, in proportion. The kernel's default. */
export const defaultCpuWeight = 100;
/** Inclusive bounds. */
export interface Range {
  readonly min: number;
  readonly max: number;
}
export type AdaptationMode = "auto" | "approve" | "advise" | "pinned";

/** What a stack says of adaptation at one place; what is absent is said elsewhere or not at all. */
export interface AdaptationWord {
  readonly mode?: AdaptationMode | undefined;
  readonly vcpus?: Range | undefined;
  readonly cpuPercent?: Range | undefined;
  readonly memoryMib?: Range | undefined;
  readonly sites?: readonly SiteId[] | undefined;
}
export type PinnableAttribute = keyof Sizing | "siteId";
export interface DeclaredAdaptation extends AdaptationWord {
  /** Stay at their baselines whatever the ranges say. */
  readonly pinned?: readonly PinnableAttribute[] | undefined;
}

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
/** One change of the domain's XML beside what we model: `cpu/topology@sockets`, or an element's text. */
export interface XmlPatch {
  readonly path: string;
  readonly value: string;
}
/** stack: declared. adaptation: a guest added it to its group or topology. import: another tool made it. */
export type Origin = "stack" | "adaptation" | "import";
export interface MachineSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  readonly group?: string | undefined;
  /** May speak for its group: only it may ask with `group`. */
  readonly speaker: boolean;
  /** Where the stack wants it, at the baseline's site, when it says so; adaptation may take it elsewhere later. */
  readonly hostId?: HostId | undefined;
  /** Absent: the environment's. */
  readonly class?: string | undefined;
  readonly imageId: ImageId;
  readonly baseline: Baseline;
  /** 1 to 10,000; absent: the default. No size: nothing is taken from a host for it, and no guest changes it. */
  readonly cpuWeight?: number | undefined;
  /** In force: `declared` over the environment's defaults. */
  readonly envelope: Envelope;
  /** The machine's own word; absent: it inherits all of it. */
  readonly declared?: DeclaredAdaptation | undefined;
  readonly networks: readonly NicSpec[];
  /** Absent: stack. */
  readonly origin?: Origin | undefined;
  /** The host on which another tool made it; it stays there. */
  readonly importedFrom?: HostId | undefined;
  /** What it is to be booted able to reach; absent: its envelope's maxima. */
  readonly ceiling?: Partial<Ceiling> | undefined;
  /** Data volumes: vdb and up. */
  readonly disks?: readonly VolumeId[] | undefined;
  readonly userData?: string | undefined;
  /** How long a guest may take to power off; absent: the default; 0: cut off at once. */
  readonly stopTimeoutMs?: Ms | undefined;
  readonly deletionProtection?: boolean | undefined;
  readonly allowRestart?: boolean | undefined;
  readonly xmlPatches?: readonly XmlPatch[] | undefined;
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
  /** Absent: the default. */
  readonly cpuWeight?: number | undefined;
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
  /** What it was started with, of what needs a restart to change; absent: as an older shepherd started it. */
  readonly started?: Started | undefined;
  /** Who claimed it first; others are told by name. */
  readonly managedBy?: string | undefined;
}
/** The parts of a specification that are in force from start to start. */
export interface Started {
  readonly userData?: string | undefined;
  readonly xmlPatches?: readonly XmlPatch[] | undefined;
  readonly disks: readonly VolumeId[];
}

export interface LinkSpec {
  readonly environmentId: EnvironmentId;
  /** Two machine names of the environment, sorted; or one, when its other end is a network. */
  readonly machines: readonly [string, string?];
  /** Name of the environment's network whose every other machine is the other end; absent: there are two machines. */
  readonly network?: string | undefined;
  /** 0: no word of the stack; it is there because a guest added it. */
  readonly rateMbps: Mbps;
  /** Absent: stack. */
  readonly origin?: "stack" | "adaptation" | undefined;
  /** The group whose topology it belongs to; it comes and goes with the group's machines. */
  readonly group?: string | undefined;
  /** low: a short queue, so that a small packet never waits long behind large ones. Absent: normal. */
  readonly latency?: "low" | undefined;
  /** What may pass at once above the rate. Absent: as little as the rate needs. */
  readonly burstKib?: number | undefined;
}
export interface LinkEffective {
  readonly rateMbps: Mbps;
  readonly adaptationId?: AdaptationId | undefined;
  readonly leaseUntilMs?: Ms | undefined;
}

export type Topology = "none" | "ring" | "mesh" | "star";
export type Coupling = "independent" | "bulk_synchronous" | "pipeline";
/** What its machines share. `networks` without addresses: those are given one by one. */
export type GroupTemplate = Pick<
  MachineSpec,
  | "class"
  | "imageId"
  | "baseline"
  | "cpuWeight"
  | "declared"
  | "networks"
  | "ceiling"
  | "userData"
  | "stopTimeoutMs"
  | "deletionProtection"
  | "allowRestart"
  | "xmlPatches"
>;
export interface GroupSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  readonly template: GroupTemplate;
  /** Baseline: the floor, which only the stack lowers. */
  readonly machineCount: number;
  /** Of its number of machines; absent: its environment's. */
  readonly mode?: AdaptationMode | undefined;
  /** How many guests may scale it to; absent: the number does not adapt. */
  readonly machineCounts?: Range | undefined;
  readonly topology: Topology;
  readonly topologyRateMbps: Mbps;
  readonly coupling: Coupling;
  /** Index of the machine that speaks for all. */
  readonly speaker?: number | undefined;
}
export interface GroupEffective {
  /** What was granted; its machines are those of its name. */
  readonly machineCount: number;
  readonly adaptationId?: AdaptationId | undefined;
  readonly leaseUntilMs?: Ms | undefined;
  readonly reason?: string | undefined;
}
export interface VolumeSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  readonly sizeGib: number;
  readonly siteId?: SiteId | undefined;
  readonly deletionProtection?: boolean | undefined;
  /** It was a machine's own disk: a layer on this image, whose base must stay. Absent: whole in itself. */
  readonly imageId?: string | undefined;
}
export interface VolumeEffective {
  /** "": not placed yet. */
  readonly hostId: HostId;
  readonly siteId: SiteId;
  readonly sizeGib: number;
}
/** A phase that a guest announced; nothing is granted for it. */
export interface ForecastSpec {
  readonly environmentId: EnvironmentId;
  /** Names. */
  readonly machines: readonly string[];
  readonly group?: string | undefined;
  readonly phase: string;
  readonly fromMs: Ms;
  readonly untilMs?: Ms | undefined;
  readonly vcpus?: number | undefined;
  readonly cpuPercent?: CpuPercent | undefined;
  readonly memoryMib?: Mib | undefined;
  readonly rateMbps?: Mbps | undefined;
  /** Untrusted text. */
  readonly reason: string;
}
/** A site that an operator registered while the shepherd runs. */
export interface SiteRegistrationSpec {
  readonly name: SiteId;
  readonly owner: string;
  /** Folder of its owner's policy at the shepherd. */
  readonly policy: string;
  /** Folder of the keys that its hosts may name. */
  readonly keyDirectory?: string | undefined;
}
/** A host that its site's owner registered while the shepherd runs; those of drover.yaml have no record. */
export interface HostRegistrationSpec {
  readonly name: HostId;
  readonly siteId: SiteId;
  /** Who owned the site then. */
  readonly owner: string;
  readonly pool: string;
  readonly migrationAddress: string;
  readonly lend: Lend;
  readonly uplinkMbps?: Mbps | undefined;
  /** Absent only in the simulated world. */
  readonly ssh?: RegisteredSsh | undefined;
  readonly libvirtSocket?: string | undefined;
  readonly acceleration: "kvm" | "tcg";
}
export interface RegisteredSsh {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** Name of a file in the site's key folder at the shepherd; keys themselves are never told. */
  readonly key: string;
  readonly hostKey: string;
}
/** Levels of a rule's instance, laxest first. */
export const constraintLevels = ["off", "audit", "warn", "approve", "deny"] as const;
export type ConstraintLevel = (typeof constraintLevels)[number];
/** One more instance of a rule of the environment's owner, for this environment alone: it can only tighten. */
export interface ConstraintSpec {
  readonly environmentId: EnvironmentId;
  readonly name: string;
  readonly rule: string;
  readonly level: ConstraintLevel;
  /** As the rule's own schema wants them. */
  readonly params: Readonly<Record<string, unknown>>;
}
interface ObjectTypes {
  environment: { id: EnvironmentId; spec: EnvironmentSpec; effective: EnvironmentEffective };
  network: { id: NetworkId; spec: NetworkSpec; effective: NetworkEffective };
  image: { id: ImageId; spec: ImageSpec; effective: ImageEffective };
  machine: { id: MachineId; spec: MachineSpec; effective: MachineEffective };
  link: { id: LinkId; spec: LinkSpec; effective: LinkEffective };
  group: { id: GroupId; spec: GroupSpec; effective: GroupEffective };
  volume: { id: VolumeId; spec: VolumeSpec; effective: VolumeEffective };
  forecast: { id: ForecastId; spec: ForecastSpec; effective: EnvironmentEffective };
  site: { id: SiteId; spec: SiteRegistrationSpec; effective: EnvironmentEffective };
  host: { id: HostId; spec: HostRegistrationSpec; effective: EnvironmentEffective };
  constraint: { id: ConstraintId; spec: ConstraintSpec; effective: EnvironmentEffective };
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
export type GroupRecord = ObjectRecord<"group">;
export type VolumeRecord = ObjectRecord<"volume">;
export type ForecastRecord = ObjectRecord<"forecast">;
export type SiteRegistration = ObjectRecord<"site">;
export type HostRegistration = ObjectRecord<"host">;
export type ConstraintRecord = ObjectRecord<"constraint">;
export type AnyObjectRecord = { [Kind in ObjectKind]: ObjectRecord<Kind> }[ObjectKind];

/** For a guest that powers off by its own means, when its stack says nothing. */
export const defaultStopTimeoutMs: Ms = 20_000;

/** The bounds in force: a machine's own word, attribute by attribute, over its environment's. */
export function envelopeOf(
  own: DeclaredAdaptation | undefined,
  environment: EnvironmentAdaptation | undefined,
): Envelope {
  const pinned = new Set(own?.pinned);
  const word = <Key extends keyof AdaptationWord>(key: Key, attribute?: PinnableAttribute) =>
    attribute !== undefined && pinned.has(attribute)
      ? undefined
      : (own?.[key] ?? environment?.[key]);
  return {
    mode: word("mode") ?? "auto",
    vcpus: word("vcpus", "vcpus"),
    cpuPercent: word("cpuPercent", "cpuPercent"),
    memoryMib: word("memoryMib", "memoryMib"),
    sites: word("sites", "siteId"),
  };
}

/** What a link is called in keys, policy and texts: `rank-0--rank-1`, or `rank-0@lan`. */
export function nameOfLink(spec: Pick<LinkSpec, "machines" | "network">): string {
  return spec.network === undefined
    ? spec.machines.join("--")
    : `${spec.machines[0]}@${spec.network}`;
}

/** The class that policy sees: the machine's own, else its environment's. */
export function classOf(machine: MachineSpec, environment: EnvironmentSpec): string {
  return machine.class ?? environment.class;
}

/** Name of the libvirt domain; the mark by which humans find it. */
export function domainName(environmentName: string, machineName: string): string {
  return `drover-${environmentName}-${machineName}`;
}
