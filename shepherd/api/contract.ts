/**
 * What the shepherd's HTTP interface says: paths, bodies, answers. Erased types only, so that the provider and the
 * console may import them without weight. JSON fields are snake_case (`Wire`); errors are RFC 9457 problem details.
 *
 *   GET    /v1/status                                    Status
 *   GET    /v1/sites            GET /v1/sites/:id         SiteView
 *   PUT    /v1/environments/:name                         body EnvironmentBody -> Mutation<EnvironmentView>
 *   GET    /v1/environments     GET|DELETE /v1/environments/:id     (ids or names are accepted wherever :id stands)
 *   PUT    /v1/environments/:environment/networks/:name   body NetworkBody -> Mutation<NetworkView>
 *   PUT    /v1/environments/:environment/machines/:name   body MachineBody -> Mutation<MachineView>
 *   PUT    /v1/environments/:environment/links            body LinkBody -> Mutation<LinkView>
 *   PUT    /v1/environments/:environment/groups/:name     body GroupBody -> Mutation<GroupView>; its machines and topology links with it
 *   PUT    /v1/environments/:environment/volumes/:name    body VolumeBody -> Mutation<VolumeView>
 *   GET    /v1/hosts?site=      GET /v1/hosts/:id           HostView
 *   PUT    /v1/images/:name                               body ImageBody -> Mutation<ImageView>
 *   PUT    /v1/blobs/:sha256                              raw body; 201 once stored and verified; HEAD asks whether it is there
 *   GET    /v1/networks/:id /v1/machines/:id /v1/links/:id /v1/images/:id       the view, or 404; lists without :id take ?environment=
 *   GET    /v1/machines?environment=ring&name=rank-0      lookup by natural key (import); also networks, links (?machines=a,b, or ?machines=a&network=lan), images (?name=)
 *   PATCH  /v1/environments/:id /v1/networks/:id /v1/machines/:id /v1/links/:id     body …Patch -> Mutation<…View>
 *   DELETE /v1/networks/:id /v1/machines/:id /v1/links/:id /v1/images/:id       -> Mutation<null>
 *   DELETE /v1/machines/:id?keep_disk=1                   its own disk stays as the volume NAME-disk: asks no policy
 *   GET|PATCH|DELETE /v1/groups/:id /v1/volumes/:id       the same; lists ?environment=&name=
 *   Constraints of an environment: contract-constraints.ts; registered hosts: contract-hosts.ts; consoles and passes: contract-passes.ts
 *   POST   /v1/plan-checks      body PlanCheckBody -> PlanCheckAnswer; decides dry, sums the changes of one run
 *   GET    /v1/foreign-machines?site=&host=               ForeignMachineView[]: what other tools made, on hosts of ours
 *   POST   /v1/foreign-machines/:id/import         body ImportBody -> Mutation<MachineView>; nothing is restarted
 *   GET    /v1/forecasts?environment=                     ForecastView[]: phases that guests announced
 *   GET    /v1/host-marks                                 HostMarkView[]: hosts that people drain or confirmed dead
 *   POST   /v1/hosts/:id/drain  body { reason } -> DrainView; GET shows how far it is, DELETE ends it
 *   POST   /v1/hosts/:id/confirm-dead   body { reason, fenced_by } -> HostMarkView
 *   POST   /v1/hosts/:id/return                           a dead host is back: cleaned first, then used again
 *   GET    /v1/differences      POST /v1/janitor          body { remove } -> JanitorAnswer: what differs, what is left over
 *   POST   /v1/operations/:id/retry                       OperationView: asks a stuck one again
 *   POST   /v1/requests         body RequestBody -> 200|202 RequestAnswer; ?dry_run=1 decides and plans, changes nothing
 *   GET    /v1/approvals?environment=&state=             ApprovalView[]: requests that wait (or waited) for named people
 *   GET    /v1/requests/:id/approval?wait_ms=            ApprovalView; returns when it is no longer pending or the wait is over
 *   POST   /v1/requests/:id/approve|reject|withdraw      body VoteBody -> ApprovalView
 *   POST   /v1/requests/:id/plan                         RequestAnswer: planned whatever policy says, nothing granted (what break-glass names)
 *   POST   /v1/requests/:id/break-glass                  body BreakGlassBody -> RequestAnswer
 *   POST   /v1/what-if          body WhatIfBody -> WhatIfAnswer     POST /v1/machines/:id/why-not  body WhyNotBody -> WhyNotAnswer
 *   GET    /v1/recalls          POST /v1/recalls  body RecallBody -> RecallView     DELETE /v1/recalls/:id
 *   GET    /v1/exemptions       POST /v1/exemptions  body ExemptionBody -> ExemptionView     DELETE /v1/exemptions/:id
 *   GET    /v1/obligations?environment=&state=           ObligationView[]     POST /v1/obligations/:id/review  body ReviewBody -> ObligationView
 *   GET    /v1/audit            AuditReport: standing state against the policies of now
 *   GET    /v1/requests/:id     GET /v1/decisions  GET /v1/decisions/:id   GET /v1/decisions/:id/explanation -> Explanation
 *   GET    /v1/operations       GET /v1/operations/:id?wait_ms=  (returns when it ended or the wait is over)   POST /v1/operations/:id/cancel
 *   GET    /v1/operations/:id/steps                      StepView[]
 *   GET    /v1/adaptations?environment=                   AdaptationView[]
 *   GET    /v1/adaptations/rows?environment=              AdaptationRow[]: what stands in adaptations.json
 *   GET    /v1/events           SSE, id = journal sequence, Last-Event-ID or ?since= resumes; ?once=1 answers JSON
 *   GET    /v1/hold             PUT /v1/hold body HoldBody     DELETE /v1/hold
 *   GET    /v1/evidence/verify  EvidenceReport               GET /v1/evidence?since=&limit=
 *   POST   /v1/evidence/restores  body AcceptRestoreBody -> AcceptedRestoreView (role security)
 *   POST   /v1/tokens           body TokenBody -> TokenAnswer (the token is shown this once)    GET /v1/tokens
 *   POST   /v1/machines/:id/connect?port=   raw body to the machine's TCP port, raw answer from it
 *   POST   /v1/tunnels/rotate   new keys on every host of the mesh between sites -> TunnelRotation
 *   GET    /metrics  GET /openapi.json
 * Lists answer { items: [...] }. PUT is create by natural key: it adopts an unclaimed object and re-attaches to its
 * running operation; a claimed one is 409 `conflict.exists`. A claim is made by GET :id, PATCH or DELETE with the id.
 * Every mutating call may carry `Idempotency-Key`; the same key answers the same for a day (docs/api.md).
 */

import type { Event } from "#model/event";
import type { Hold, SiteFacts } from "#model/facts";
import type { FaultData } from "#model/fault";
import type { Envelope, MachineEffective } from "#model/objects";
import type { OwedObligation } from "#model/obligation";
import type { Operation, Plan, StepRecord } from "#model/plan";
import type { Adaptation, Consent, Decision, Finding, Request } from "#model/request";
import type { HostMark } from "#model/site";
import type { Wire } from "#model/wire";
import type { Difference } from "#operations/differences";

export interface EnvironmentBody {
  /** Absent: the principal that declares it (the token's name, or local-root). */
  owner?: string | null;
  class: string;
  sites: string[];
  /** What its machines inherit where they say nothing; and what its links may do. */
  adaptation?: EnvironmentAdaptation | null;
}
/** Defaults of an environment. A machine's own word, attribute by attribute, goes before it. */
export interface EnvironmentAdaptation {
  mode?: Envelope["mode"] | null;
  vcpus?: RangeBody | null;
  cpu_percent?: RangeBody | null;
  memory_mib?: RangeBody | null;
  sites?: string[] | null;
  /** Bounds of links that guests add, and how many they may add; absent: guests add none. */
  links?: { max_added: number; rate_mbps: RangeBody } | null;
}
export interface RangeBody {
  min: number;
  max: number;
}
export type EnvironmentPatch = Partial<EnvironmentBody>;
export interface EnvironmentView extends EnvironmentBody {
  owner: string;
  adaptation: EnvironmentAdaptation | null;
  id: string;
  name: string;
  version: number;
}

export interface NetworkBody {
  cidr: string;
  /** Absent: what the usual underlay leaves: 1450, or 1370 between sites that are met encrypted. Proven before it is admitted. */
  mtu?: number | null;
  /** A way out of the LAN that stays at this site, whatever moves; `nat` also leads out of the host. */
  gateway?: { site: string; nat?: boolean } | null;
}
/** Absent: as it is. */
export interface NetworkPatch {
  /** Null: what the usual underlay leaves. A larger one is used by machines from their next start; a smaller one needs that none runs. */
  mtu?: number | null;
  /** Null: none. Machines hear of a new one, or of none, when they ask DHCP again. */
  gateway?: { site: string; nat?: boolean } | null;
}
export interface NetworkView extends NetworkBody {
  id: string;
  environment_id: string;
  name: string;
  vni: number;
  mtu: number;
  version: number;
}

export interface TunnelRotation {
  /** Counts rotations. */
  generation: number;
  hosts: string[];
}

export interface ImageBody {
  /** File at the shepherd, or `blob:<sha256>` of an upload. */
  source: string;
  sha256: string;
  kernel?: string | null;
  initrd?: string | null;
  cmdline?: string | null;
}
export interface ImageView extends ImageBody {
  id: string;
  name: string;
  size_bytes: number;
  virtual_bytes: number;
  version: number;
}

export interface SizingFields {
  vcpus: number;
  cpu_percent: number;
  memory_mib: number;
}
/** A machine's own bounds; null or absent: the environment's, else that attribute does not adapt. */
export interface MachineAdaptation {
  mode?: Envelope["mode"] | null;
  vcpus?: RangeBody | null;
  cpu_percent?: RangeBody | null;
  memory_mib?: RangeBody | null;
  sites?: readonly string[] | null;
  /** These stay at their baselines whatever the ranges say. */
  pinned_attributes?: readonly PinnableAttribute[] | null;
}
export type PinnableAttribute = "vcpus" | "cpu_percent" | "memory_mib" | "site";
/** One change of the domain's XML that drover does not model: `cpu/topology@sockets` = "2", or an element's text. */
export interface XmlPatch {
  path: string;
  value: string;
}
export interface MachineBody {
  group?: string | null;
  speaker?: boolean;
  class?: string | null;
  image_id: string;
  /** Baselines. Absent: the shepherd's defaults (1 vCPU, 100 %, 256 MiB, first site of the environment). */
  vcpus?: number | null;
  cpu_percent?: number | null;
  memory_mib?: number | null;
  /** Its part of a busy host, in proportion to the weights of the others there; 1 to 10,000. Default 100. Changed live. */
  cpu_weight?: number | null;
  site?: string | null;
  /** Of its site; absent: the shepherd chooses. A change is a live move, null moves nothing; adaptation may take it elsewhere. */
  host?: string | null;
  adaptation?: MachineAdaptation | null;
  networks: { network_id: string; address?: string | null }[];
  /** What it is booted able to reach; default: its envelope's maxima. Raising it needs a restart. */
  ceiling?: { vcpus?: number | null; memory_mib?: number | null } | null;
  /** Data volumes, in the order of vdb, vdc, …; they outlive the machine. */
  disks?: { volume_id: string }[] | null;
  /** cloud-init user data (NoCloud seed); a change needs a restart. At most 16 KiB. */
  user_data?: string | null;
  /** How long a guest may take to power off before it is cut off; 0: at once. Default 20. */
  stop_timeout_s?: number | null;
  /** Refuses to destroy it (409 `object.protected`) until this is taken back. */
  deletion_protection?: boolean;
  /** Lets an update restart it where a change cannot be made live; else 409 `machine.restart_needed`. */
  allow_restart?: boolean;
  /** The escape hatch; only paths that every site it may live at allows. A change needs a restart. */
  raw_xml_patch?: XmlPatch[] | null;
  start_from?: (SizingFields & { site: string; adaptation_id: string }) | null;
}
export interface MachinePatch
  extends Partial<Omit<MachineBody, "image_id" | "start_from" | "group">> {
  group?: string | null;
  /** The effective values that the plan was made from; if one changed since, 409 `plan.stale` and nothing is done. */
  planned_from?: Partial<SizingFields & { site: string }>;
  /** The effective values that the plan promised; reached exactly or the call fails. */
  planned_effective?: Partial<SizingFields & { site: string }>;
}
/** Live values. `vcpus`, `cpu_percent`, `memory_mib`, `site`, `host` are what the host says now, else the last known. */
export interface MachineEffectiveView extends SizingFields {
  cpu_weight: number;
  site: string;
  host: string;
  state: MachineEffective["state"];
  adaptation_id: string | null;
  lease_until_ms: number | null;
  reason: string | null;
}
export interface MachineView extends SizingFields {
  id: string;
  environment_id: string;
  environment: string;
  name: string;
  group: string | null;
  speaker: boolean;
  class: string;
  image_id: string;
  cpu_weight: number;
  site: string;
  /** As declared; null: the shepherd chooses. Where it is stands in `effective.host`. */
  host: string | null;
  /** In force: its own word over the environment's. */
  adaptation: Wire<Envelope>;
  /** As declared; null: it says nothing itself and inherits the environment's. */
  declared_adaptation: MachineAdaptation | null;
  disks: { volume_id: string }[];
  /** SHA-256 of the user data; the text itself may hold secrets and is not shown. */
  user_data_sha256: string | null;
  stop_timeout_s: number;
  deletion_protection: boolean;
  allow_restart: boolean;
  raw_xml_patch: XmlPatch[];
  /** `adaptation`: a guest added it to its group; the stack does not know it. `import`: another tool made it. */
  origin: "stack" | "adaptation" | "import";
  /** Who manages it: the principal (or `Drover-Manager` of the call) that claimed it; null: unclaimed. */
  managed_by: string | null;
  /** Declared, but not in force before its next start. */
  restart_needed: string[];
  /** `plugged: false`: somebody has unplugged the card; an update plugs it in again. */
  networks: { network_id: string; address: string; mac: string; plugged: boolean }[];
  ceiling: { vcpus: number; memory_mib: number };
  effective: MachineEffectiveView;
  /**
   * What its guest has now, beside what is set: memory follows a balloon, and a processor that the guest could not let go
   * of stays with it (under the same cap). Null: it does not run, an operation is changing it, or its host did not say.
   */
  guest_seen: { vcpus: number; memory_mib: number } | null;
  /** Attributes whose live value no adaptation explains: foreign drift. Settling memory is not drift. */
  drift: {
    attribute: "vcpus" | "cpu_percent" | "cpu_weight" | "memory_mib" | "site" | "networks";
    expected: number | string;
    actual: number | string;
  }[];
  version: number;
}

export interface LinkBody {
  /** Two names; with `network` the one machine. */
  machines: string[];
  /** Name of the network that is the other end: the rate counts what no link with a single machine of it names. */
  network?: string | null;
  rate_mbps: number;
  /** low: a short queue, so that a small packet never waits long behind large ones. Absent: normal. */
  latency?: "low" | null;
  /** What may pass at once above the rate. Absent: as little as the rate needs. */
  burst_kib?: number | null;
}
export interface LinkPatch {
  rate_mbps: number;
  /** As in MachinePatch. */
  planned_from?: { rate_mbps?: number };
  planned_effective?: { rate_mbps?: number };
}
export interface LinkView extends LinkBody {
  id: string;
  environment_id: string;
  origin: "stack" | "adaptation";
  effective: { rate_mbps: number; adaptation_id: string | null; lease_until_ms: number | null };
  version: number;
}

/** What every machine of a group is; names and addresses are the group's to give. */
export type GroupTemplate = Omit<
  MachineBody,
  "group" | "speaker" | "start_from" | "networks" | "disks"
> & {
  networks: { network_id: string }[];
};
export type GroupTopology = "none" | "ring" | "mesh" | "star";
export interface GroupBody {
  template: GroupTemplate;
  /** Baseline. Machines are called `<group>-0` and up. */
  machine_count: number;
  /** How many machines guests may scale it to; the baseline is the floor. Absent: the number does not adapt. */
  adaptation?: { mode?: Envelope["mode"] | null; machine_count?: RangeBody | null } | null;
  /** Links among its machines, kept when it scales. */
  topology?: GroupTopology | null;
  /** Rate of each of those links; needed with a topology. */
  topology_rate_mbps?: number | null;
  /** How its machines work together; `bulk_synchronous`: the slowest sets the pace. Policy and planner read it. */
  coupling?: "independent" | "bulk_synchronous" | "pipeline" | null;
  /** Index of the machine that may speak for all; null: none. Default 0. */
  speaker?: number | null;
}
export interface GroupPatch extends Partial<GroupBody> {
  planned_from?: { machine_count?: number };
  planned_effective?: { machine_count?: number };
}
export interface GroupView {
  id: string;
  environment_id: string;
  name: string;
  template: GroupTemplate;
  machine_count: number;
  /** `mode`: its own word; `mode_in_force`: that, or its environment's. */
  adaptation: {
    mode: Envelope["mode"] | null;
    mode_in_force: Envelope["mode"];
    machine_count: RangeBody | null;
  };
  topology: GroupTopology;
  topology_rate_mbps: number | null;
  coupling: "independent" | "bulk_synchronous" | "pipeline";
  speaker: number | null;
  effective: {
    machine_count: number;
    machines: { id: string; name: string; origin: "stack" | "adaptation"; state: string }[];
    adaptation_id: string | null;
    lease_until_ms: number | null;
    reason: string | null;
  };
  version: number;
}

export interface VolumeBody {
  size_gib: number;
  /** Where it lives; absent: where its machine is first placed. */
  site?: string | null;
  deletion_protection?: boolean;
}
/** Size and site are fixed once it is placed (409 `object.immutable`). */
export type VolumePatch = Partial<VolumeBody>;
export interface VolumeView {
  id: string;
  environment_id: string;
  name: string;
  size_gib: number;
  deletion_protection: boolean;
  /** Null: not placed yet. */
  effective: { site: string | null; host: string | null; machine: string | null };
  version: number;
}

export interface HostView {
  id: string;
  site: string;
  state: "up" | "degraded";
  lend: { cpu_percent: number; memory_mib: number; disk_gib: number };
  free_memory_mib: number | null;
  free_disk_bytes: number | null;
  foreign: { count: number; cpu_percent: number; memory_mib: number };
  machines: string[];
}

/** A dry decision on one object's change; all changes told under one `run` are summed, so that quotas see the whole. */
export interface PlanCheckBody {
  /** One id per provider run; forgotten after ten minutes of silence. */
  run: string;
  /** How many of its checks were answered before this; a shepherd that knows of fewer answers 409 `plan.forgotten`. */
  earlier?: number;
  /** A constraint is not judged itself: what the run tells after it is judged as if it stood already. */
  kind: "machine" | "group" | "link" | "environment" | "network" | "volume" | "constraint";
  verb: "create" | "update" | "delete";
  /** Update and delete. */
  id?: string;
  /** Create: name or id; absent: the environment that this same run creates. */
  environment?: string;
  name?: string;
  /** What PUT or PATCH would get; what is not known yet is absent. */
  body?: Record<string, unknown>;
  /** Deleting a machine: its own disk stays. */
  keep_disk?: true;
  /** IPv4 addresses that it names, also those of networks that are not known yet: no other machine is given them by itself. */
  addresses?: string[];
}
export interface PlanCheckAnswer {
  /** `unknown`: too little is known to judge; apply will. */
  verdict: "granted" | "approval" | "denied" | "unknown";
  code: string;
  message: string;
  findings: PlanCheckFinding[];
  /** How each changed attribute would be put in force. */
  ways: { attribute: string; way: "live" | "move" | "restart" }[];
  predicted: { duration_ms: number; bytes: number; downtime_ms: number } | null;
}
export interface PlanCheckFinding {
  severity: "error" | "warning";
  /** In the words of the body; null: of the whole object. */
  attribute: string | null;
  rule: string;
  id: string;
  owner: string;
  message: string;
  nearest: Record<string, number | string> | null;
}

/** A domain on one of our hosts that is not ours. */
export interface ForeignMachineView {
  id: string;
  name: string;
  site: string;
  host: string;
  state: string;
  vcpus: number;
  cpu_percent: number | null;
  cpu_weight: number;
  memory_mib: number;
  memory_max_mib: number;
  /** Another controller's mark in its metadata; null: none found. */
  managed_by: string | null;
}
export interface ImportBody {
  /** Name or id. */
  environment: string;
  name: string;
  host?: string;
  group?: string | null;
  class?: string | null;
}

export interface ForecastView {
  id: string;
  environment: string;
  machines: string[];
  group: string | null;
  phase: string;
  from_ms: number;
  until_ms: number | null;
  vcpus: number | null;
  cpu_percent: number | null;
  memory_mib: number | null;
  rate_mbps: number | null;
  reason: string;
  announced_at_ms: number;
}

/** Answer of every mutation: the object as it is, and the operation that goes on with it (202) or did it (200). */
export interface Mutation<View> {
  object: View | null;
  operation: OperationView | null;
  /** Set (with 202, and no operation) when named people must approve first; the same call again attaches to it. */
  approval?: ApprovalView | null;
}
export type OperationView = Wire<Omit<Operation, "fault">> & { fault: FaultData | null };
export type StepView = Wire<StepRecord>;

/** Same methods as a guest's; `machine` and `environment` by name. */
export interface RequestBody {
  method: "resize" | "rate" | "move" | "release" | "scale" | "topology" | "forecast";
  environment: string;
  machine?: string;
  group?: string;
  params: {
    vcpus?: number;
    cpu_percent?: number;
    memory_mib?: number;
    peer?: string;
    rate_mbps?: number;
    site?: string;
    /** move: this host and no other. Without machine and group the whole environment moves. */
    host?: string;
    /** move: it has to have ended so soon, or it does not begin. */
    within_s?: number;
    /** scale: how many machines the group is to have. */
    machines?: number;
    /** topology: links to add or to change; those that guests added and that are not named go. */
    links?: { machines: [string, string]; rate_mbps: number }[];
    phase?: string;
    in_s?: number;
    for_s?: number;
    lease_s?: number;
    reason?: string;
  };
}
export interface RequestAnswer {
  verdict: "granted" | "denied" | "pending" | "partial";
  request: string;
  decision: string;
  operation: string | null;
  code: string;
  message: string;
  findings: Wire<Finding>[];
  plan: Wire<Plan> | null;
  /** The plan in words, where people are to read it before they decide. */
  plan_text?: string[];
  /** Dry run of a move: all that stands in its way at the hosts, each with its fix. Empty: it can begin. */
  blockers?: { machine: string; check: string; problem: string; fix: string }[];
  /** Set when named people must approve it: verdict `pending`, no operation yet. */
  approval?: ApprovalView | null;
}

/**
 * A request that waits for named people. An approval is for exactly the plan of `plan_digest`; when the world has changed
 * so that another plan would be made, the votes are void and the new plan is shown. Nothing is reserved meanwhile.
 */
export interface ApprovalView {
  request: string;
  environment: string;
  kind: string;
  asked_by: { type: string; name: string };
  reason: string;
  state: "pending" | "approved" | "rejected" | "expired" | "withdrawn" | "denied";
  /** Distinct people that must say yes. */
  needs: number;
  /** Whose policies want it: `operator`, `owner:alice`, `site:north`. */
  wanted_by: string[];
  /** How many people each of them wants, of which, and whose yes it has. */
  demands: { owner: string; needs: number; approvers: string[] | null; said_yes: string[] }[];
  decision: string;
  /** What would be done; `plan_text` says it in words, one line an action. */
  plan: Wire<Plan>;
  plan_text: string[];
  plan_digest: string;
  /** Why it waits, and anything else that rules said. */
  findings: Wire<Finding>[];
  /** `by` names the token, `human` the person. */
  votes: {
    by: string;
    human: string;
    verdict: "approve" | "reject";
    reason: string;
    at_ms: number;
  }[];
  asked_at_ms: number;
  expires_at_ms: number;
  /** Set once approved; the operation that carries it out. */
  operation: string | null;
  /** One line: for whom it waits, or how it ended. */
  message: string;
}
export interface VoteBody {
  reason: string;
  /** What the voter read; when it is another now, `approval.plan_changed` and no vote. */
  plan_digest?: string;
}

export type SiteView = Wire<SiteFacts>;
export type AdaptationView = Wire<Adaptation> & {
  environment: string;
  machine: string | null;
  link: string | null;
};
/** One line of adaptations.json. A machine's row has its whole granted size, so that `start_from` can be made of it. */
export interface AdaptationRow {
  environment: string;
  machine?: string;
  link?: string;
  vcpus?: number;
  cpu_percent?: number;
  memory_mib?: number;
  site?: string;
  rate_mbps?: number;
  adaptation_id: string;
  /** Null: until released. */
  lease_until_ms: number | null;
  decision: string;
}
export type EventView = Wire<Event>;
export type HoldView = Wire<Hold>;
/** Answer of DELETE /v1/hold. */
export interface HoldLifted {
  lifted: HoldView["scope"];
  /** False: nothing of this scope was held. */
  was_held: boolean;
}
export interface HoldBody {
  scope: HoldView["scope"];
  reason: string;
  for_ms?: number;
}

export interface TokenBody {
  name: string;
  role: "operator" | "approver" | "security" | "reader" | "stack";
  /** Who uses it: two tokens of one human are one person where people must agree. Absent: the token's name. */
  human?: string;
}
export interface TokenAnswer extends TokenBody {
  /** Goes into DROVER_TOKEN. The shepherd keeps only its hash. */
  token: string;
}

export interface Explanation {
  request: Wire<Request>;
  decision: Wire<Decision>;
  decisions: Wire<Decision>[];
  consents: Wire<Consent>[];
  plan: Wire<Plan> | null;
  operation: OperationView | null;
  steps: StepView[];
  approval: ApprovalView | null;
  /** Where rules that spoke stand in the Rego, by `owner rule`. */
  sources: Record<string, { file: string; line: number }>;
  /** Exemptions that turned a no. */
  exemptions: { owner: string; rule: string; id: string; exemption: string }[];
  /** What policies demanded with the yes, and what became of it. */
  obligations: Wire<OwedObligation>[];
  /** Rendered for a terminal, one fact a line. */
  text: string;
}
/** A policy and data that decided, as `drover replay` loads them. */
export interface DecidedPolicy {
  owner: string;
  policy_digest: string;
  data_digest: string;
  /** The compiled policy, packed. */
  wasm_gz_base64: string;
  data: unknown;
}
export interface EvidenceReport {
  ok: boolean;
  entries: number;
  head: string;
  /** First entry whose hash or link does not fit. */
  broken_at: number | null;
  /** Where a checkpoint speaks against the log: it was cut, rolled back, written again or replaced. */
  problems: { kind: string; where: string; seq: number | null; told: string }[];
  /** Who keeps checkpoints; `problem`: why they could not be read. */
  witnesses: {
    where: string;
    checkpoints: number;
    newest_seq: number;
    problem: string | null;
  }[];
  /** Restores that people owned up to, oldest first. */
  restores: AcceptedRestoreView[];
}
export interface AcceptRestoreBody {
  reason: string;
}
/** Checkpoints between these entries are of what was given up when an old database was put back. */
export interface AcceptedRestoreView {
  by: string;
  reason: string;
  at_ms: number;
  kept_seq: number;
  until_seq: number;
}
export interface Status {
  version: string;
  world: "libvirt" | "simulated";
  now_ms: number;
  sites: SiteView[];
  environments: { name: string; owner: string; class: string; machines: MachineView[] }[];
  operations: OperationView[];
  holds: HoldView[];
  /** What waits for people: requests for approval, exemptions for a second person, recalls past their deadline, reviews. */
  waiting: { approvals: number; exemptions: number; overdue_recalls: number; reviews: number };
}

export type HostMarkView = Wire<HostMark>;
export interface DrainView {
  host_id: string;
  by: string;
  reason: string;
  since_ms: number;
  /** Still there; counts to zero. */
  machines: number;
  moving: { machine: string; environment_id: string; operation: string }[];
  /** Why the others have not left. */
  blockers: { machine: string; environment_id: string; code: string; message: string }[];
  done: boolean;
}
export type DifferenceView = Wire<Difference>;
export interface JanitorBody {
  /** False: only show what would be removed. */
  remove: boolean;
}
export interface JanitorAnswer {
  litter: DifferenceView[];
  /** Empty for a dry run. */
  operations: OperationView[];
}

/** RFC 9457, with our code, hint and facts. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  hint: string;
  details: Record<string, unknown>;
  findings?: Wire<Finding>[];
  decision?: string;
}
