/**
 * An ask, the verdict on it, and what an executed yes leaves behind. Plain data, journaled as it stands here.
 */
import type { Vote } from "#model/consent";
import type {
  Baseline,
  Envelope,
  GroupSpec,
  LinkSpec,
  MachineSpec,
  Sizing,
  VolumeSpec,
} from "#model/objects";
import type { Obligation } from "#model/obligation";
import type {
  AdaptationId,
  DecisionId,
  Digest,
  EnvironmentId,
  GrantId,
  GroupId,
  HostId,
  LinkId,
  MachineId,
  Mbps,
  Ms,
  OperationId,
  PlanId,
  RequestId,
  SiteId,
  VolumeId,
} from "#model/units";

export type SubjectType = "guest" | "operator" | "automation" | "stack" | "shepherd";

/** Who asks, as the intake authenticated it; never what the asker says about itself. */
export interface Subject {
  readonly type: SubjectType;
  /** Name of the token or socket principal (`local-root`), or the machine's name for a guest. */
  readonly name: string;
  /** The person behind the token, where it names one. */
  readonly human?: string | undefined;
  /** The machine whose channel it came through. */
  readonly machineId?: MachineId | undefined;
  readonly roles: readonly string[];
}

/** What one machine should become; absent fields stay as they are. */
export interface MachineAsk extends Partial<Sizing> {
  readonly machineId: MachineId;
  /** Only the stack's word changes it. */
  readonly cpuWeight?: number | undefined;
  readonly siteId?: SiteId | undefined;
  /** A move to this host and no other. */
  readonly hostId?: HostId | undefined;
  /** It is to be destroyed, whatever the others of the request become. */
  readonly remove?: true | undefined;
  /** It is to be started anew where it is, with its specification as it then is. */
  readonly restart?: true | undefined;
}
export interface LinkAsk {
  readonly linkId: LinkId;
  /** 0: it is to go. */
  readonly rateMbps: Mbps;
}
/**
 * New words, stored with the grant and not before: of objects that are there, and of those that the request creates
 * (an id that the journal does not know; a machine of that kind stands in `machines` too).
 */
export interface Declared {
  readonly machines?: readonly { readonly id: MachineId; readonly spec: MachineSpec }[] | undefined;
  readonly links?: readonly { readonly id: LinkId; readonly spec: LinkSpec }[] | undefined;
  readonly group?: { readonly id: GroupId; readonly spec: GroupSpec } | undefined;
  /** Of volumes that are there. */
  readonly volumes?: readonly { readonly id: VolumeId; readonly spec: VolumeSpec }[] | undefined;
}

/**
 * create, update (the stack changes baselines or envelope), destroy come from the stack;
 * resize, rate, move, scale (more or fewer machines of a group), topology (links), release from anyone;
 * repair from the shepherd itself.
 */
export type RequestKind =
  | "create"
  | "update"
  | "destroy"
  | "resize"
  | "rate"
  | "move"
  | "scale"
  | "topology"
  | "release"
  | "repair";

export interface Request {
  readonly id: RequestId;
  readonly kind: RequestKind;
  readonly environmentId: EnvironmentId;
  readonly subject: Subject;
  /** All machines asked for; a group request has one entry a member and is all-or-report. */
  readonly machines: readonly MachineAsk[];
  readonly links: readonly LinkAsk[];
  /** Of a destroy: the machines' own disks stay, as volumes. */
  readonly keepDisks?: true | undefined;
  /** Data volumes to be destroyed, with what is on them. */
  readonly volumes?: readonly VolumeId[] | undefined;
  /** Set when the whole group was asked for. */
  readonly group?: string | undefined;
  /** The number of machines that the group is to have. */
  readonly scale?: { readonly groupId: GroupId; readonly machineCount: number } | undefined;
  readonly declares?: Declared | undefined;
  /** Digest of what the asker said, where the asks above were looked up for it: a repeated ask finds other machines. */
  readonly words?: Digest | undefined;
  /** How long the change is wanted; absent = until released. */
  readonly leaseMs?: Ms | undefined;
  /** A move: it is to have ended so long after it was received, or not to begin. */
  readonly withinMs?: Ms | undefined;
  /** Untrusted text of the asker, at most 200 characters, inert wherever it is shown. */
  readonly reason: string;
  /** The asker's own id; the same (subject, key) always gets the same answer. */
  readonly idempotencyKey: string;
  readonly receivedAtMs: Ms;
  /** For update: the new spec parts; for create the record already stands in objects with state creating. */
  readonly update?:
    | { readonly baseline: Baseline; readonly envelope: Envelope; readonly spec: MachineSpec }
    | undefined;
}

export type Effect = "allow" | "approve" | "deny";
export type Level = "off" | "audit" | "warn" | "approve" | "deny";

export interface Finding {
  /** Rule id ("envelope") and the instance that produced it. */
  readonly rule: string;
  readonly id: string;
  readonly level: Level;
  readonly ok: boolean;
  /** `policy.allowed`, `policy.denied`, `policy.exempt`, or why there is no verdict: `policy.indeterminate`, `policy.timeout`, … */
  readonly code?: string | undefined;
  readonly msg: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Whose bundle said so: `operator`, `site:north`, `owner:alice`. */
  readonly owner: string;
  /** A guest sees the numbers only of rules disclosed to the environment's owner. */
  readonly disclose: "owner" | "operator";
  /** Where in the input the failed number stands. */
  readonly path?: string | undefined;
  /** Nearest values that would pass, where the rule can compute them. */
  readonly fix?: Readonly<Record<string, number | string>> | undefined;
}

export interface Limits {
  readonly maxDowntimeMs?: Ms | undefined;
  readonly maxMbps?: Mbps | undefined;
  readonly ttlMs?: Ms | undefined;
  /** What must not be done about a copy that does not end: `downtime`, `bandwidth`, `throttle`, `post_copy`, `abort`. */
  readonly forbidRungs?: readonly string[] | undefined;
  /** Places that the planner must not choose for these machines; staying where they are is no choice. */
  readonly avoid?: readonly AvoidedPlace[] | undefined;
  /** Machines that the planner must not bring together. */
  readonly apart?: readonly KeptApart[] | undefined;
  /** Machines that the planner must not spread. */
  readonly together?: readonly KeptTogether[] | undefined;
}
/** Of these machines, by name within their environment, at most so many at one place; those that are there may stay. */
export interface KeptApart {
  readonly machines: readonly string[];
  readonly per: "host" | "site";
  readonly most: number;
}
/** These machines, by name within their environment, at no more places than that, or than they are at already. */
export interface KeptTogether {
  readonly machines: readonly string[];
  readonly per: "host" | "site";
  readonly most: number;
}
/** One of site and host is given. */
export interface AvoidedPlace {
  /** Name within its environment. */
  readonly machine: string;
  readonly siteId?: SiteId | undefined;
  readonly hostId?: HostId | undefined;
}

/** One owner's answer. */
export interface Consent {
  readonly owner: string;
  readonly effect: Effect;
  readonly policyDigest: Digest;
  readonly dataDigest: Digest;
  readonly durationMs: number;
}

export interface Decision {
  readonly id: DecisionId;
  readonly requestId: RequestId;
  readonly environmentId: EnvironmentId;
  readonly point: "request" | "plan";
  readonly effect: Effect;
  /** `policy.denied`, `placement.no_host_fits`, `limit.rate`, … ; `granted` when allowed. */
  readonly code: string;
  /** One line for the asker, already cut to what the asker may know. */
  readonly message: string;
  readonly findings: readonly Finding[];
  readonly obligations: readonly Obligation[];
  readonly limits: Limits;
  readonly consents: readonly Consent[];
  /** Whose approval made a yes of it; absent when nobody had to be asked. */
  readonly approvedBy?: readonly Vote[] | undefined;
  /** Exactly what policy saw (wire shape), for replay and explain. */
  readonly input: unknown;
  readonly decidedAtMs: Ms;
}

/** An executed change that departs from the baseline. The record behind `effective` and `adaptations.json`. */
export interface Adaptation {
  readonly id: AdaptationId;
  readonly environmentId: EnvironmentId;
  readonly machineId?: MachineId | undefined;
  readonly linkId?: LinkId | undefined;
  readonly groupId?: GroupId | undefined;
  /** Name of a machine that is gone: its successor of the same name may start from what was granted. */
  readonly formerMachine?: string | undefined;
  readonly decisionId: DecisionId;
  /** Only the departing attributes. */
  readonly values: Partial<Sizing> & {
    readonly siteId?: SiteId | undefined;
    readonly rateMbps?: Mbps | undefined;
    readonly machineCount?: number | undefined;
  };
  /** Undefined: until released. */
  readonly leaseUntilMs?: Ms | undefined;
  readonly reason: string;
  readonly createdAtMs: Ms;
}

/** Permission to run exactly one plan, once, for a limited time. */
export interface Grant {
  readonly id: GrantId;
  readonly kind: "decision" | "release" | "repair" | "break_glass";
  readonly planId: PlanId;
  readonly planDigest: Digest;
  readonly decisionId?: DecisionId | undefined;
  readonly expiresAtMs: Ms;
  readonly usedBy?: OperationId | undefined;
}
