/**
 * What is known of the fleet at one moment: the only thing the planner and policy see. Pure data; may be saved to a
 * file and planned on elsewhere. Ages are kept, so that old facts can be refused.
 */
import type { Exemption, Recall } from "#model/consent";
import type {
  ConstraintRecord,
  EnvironmentRecord,
  ForecastRecord,
  GroupRecord,
  ImageRecord,
  LinkRecord,
  MachineRecord,
  NetworkRecord,
  Sizing,
  VolumeRecord,
} from "#model/objects";
import type { MoveBasis, Reservation } from "#model/plan";
import type { Decision, RequestKind, SubjectType } from "#model/request";
import type { Lend } from "#model/site";
import type {
  Bytes,
  CpuPercent,
  EnvironmentId,
  HostId,
  MachineId,
  Mbps,
  Mib,
  Ms,
  OperationId,
  SiteId,
} from "#model/units";

/** Capacity taken on a host by domains that are not ours; they count as used room. */
export interface ForeignUse {
  readonly count: number;
  readonly cpuPercent: CpuPercent;
  readonly memoryMib: Mib;
}

export interface HostFacts {
  readonly id: HostId;
  readonly siteId: SiteId;
  /** degraded: it does not answer; nothing new is placed there and nothing is concluded about its machines. */
  readonly state: "up" | "degraded";
  /** A person's word: dead counts as not answering; draining takes nothing more, and what is there may only shrink or leave. */
  readonly mark?: "dead" | "draining" | undefined;
  readonly lend: Lend;
  /** What the host itself says is free; admission counts min(lend left, this). Undefined when not observed. */
  readonly freeMemoryMib?: Mib | undefined;
  readonly freeDiskBytes?: Bytes | undefined;
  readonly foreign: ForeignUse;
  /** What its uplink carries, for promises of links; undefined: nobody counts. */
  readonly uplinkMbps?: Mbps | undefined;
  readonly observedAtMs: Ms;
}
export interface SiteFacts {
  readonly id: SiteId;
  readonly owner: string;
  /** What the paths to other sites carry, by site; a site that is not named is not counted. */
  readonly pathMbps?: Readonly<Record<SiteId, Mbps>> | undefined;
  readonly hosts: readonly HostFacts[];
}
export interface ObservedMachine {
  readonly hostId: HostId;
  readonly running: boolean;
  readonly vcpus: number;
  readonly cpuPercent: CpuPercent | undefined;
  /** Absent: the default. */
  readonly cpuWeight?: number | undefined;
  readonly memoryMib: Mib;
  readonly memoryTargetMib: Mib;
  /** Processors that its guest has; absent: as many as `vcpus`. */
  readonly guestVcpus?: number | undefined;
  /** Of its network cards; absent: its host did not say. */
  readonly macs?: readonly string[] | undefined;
  readonly observedAtMs: Ms;
}
/** Observed cost inputs of a machine, for prediction. */
export interface MachineLoad {
  readonly diskAllocatedBytes: Bytes;
  /** Memory that the guest dirties, MiB a second; undefined when not sampled. */
  readonly dirtyMibPerS?: number | undefined;
}
/** A judged request of the last hour; the newest ones of each subject when there are very many. */
export interface RecentRequest {
  readonly id: string;
  readonly environmentId: string;
  readonly atMs: Ms;
  /** Name of who asked. */
  readonly subject: string;
  readonly kind: RequestKind;
  readonly effect: Decision["effect"];
  readonly machineIds: readonly MachineId[];
}
/** A move of the last 24 hours, of any environment; also of one that is gone by now. */
export interface RecentMove {
  readonly operationId: OperationId;
  readonly environmentId: EnvironmentId;
  /** The environment's owner when it was decided; "" when nobody knows any more. */
  readonly owner: string;
  readonly machineId: MachineId;
  readonly machineName: string;
  /** Who asked for it. */
  readonly cause: SubjectType;
  readonly atMs: Ms;
  readonly fromSiteId: SiteId;
  readonly toSiteId: SiteId;
  /** Measured when it has ended, else predicted. */
  readonly bytes: Bytes;
  readonly downtimeMs: Ms;
  readonly outcome: "running" | "done" | "failed";
}
/** What a move took, beside what it was predicted from. */
export interface MoveSample {
  readonly machineId: MachineId;
  readonly fromSiteId: SiteId;
  readonly toSiteId: SiteId;
  readonly basis: MoveBasis;
  readonly bytes: Bytes;
  readonly durationMs: Ms;
  readonly downtimeMs: Ms;
}
export interface Hold {
  readonly scope: "everything" | { readonly siteId: SiteId } | { readonly environmentId: string };
  readonly by: string;
  readonly reason: string;
  readonly sinceMs: Ms;
  readonly untilMs?: Ms | undefined;
}
export interface Facts {
  readonly nowMs: Ms;
  /** What a host said longer ago than this is no ground for giving or moving anything; absent: no bound. */
  readonly maxAgeMs?: Ms | undefined;
  readonly sites: readonly SiteFacts[];
  readonly environments: readonly EnvironmentRecord[];
  readonly networks: readonly NetworkRecord[];
  /** For the size that a machine's own disk layer may come to take. */
  readonly images: readonly ImageRecord[];
  readonly machines: readonly MachineRecord[];
  readonly links: readonly LinkRecord[];
  readonly groups: readonly GroupRecord[];
  readonly volumes: readonly VolumeRecord[];
  /** Phases that guests announced and that are not over. */
  readonly forecasts: readonly ForecastRecord[];
  readonly reservations: readonly Reservation[];
  /** What hosts last said about our machines, by machine id; absent = not observed. May differ from `effective`: drift. */
  readonly observed: Readonly<Record<string, ObservedMachine>>;
  readonly loads: Readonly<Record<string, MachineLoad>>;
  readonly recent: readonly RecentRequest[];
  /** Moves of the last 24 hours in the whole fleet, oldest first. */
  readonly moves: readonly RecentMove[];
  /** Smallest effective sizes within the last hour, by machine id; absent = as now. What growth is measured from. */
  readonly hourLow: Readonly<Record<string, Sizing>>;
  readonly holds: readonly Hold[];
  /** Consent that sites' owners took back and that still stands. */
  readonly recalls: readonly Recall[];
  /** Given at run time, approved and not over yet. */
  readonly exemptions: readonly Exemption[];
  /** Rule instances that the request's environment declares for itself; absent: none. */
  readonly constraints?: readonly ConstraintRecord[] | undefined;
  /** Measured rate between two sites (or inside one), key `a>b`; absent = the default of the planner. */
  readonly siteRates: Readonly<Record<string, Mbps>>;
  /** What moves lately took, newest first; absent: none was measured. */
  readonly moveSamples?: readonly MoveSample[] | undefined;
}
