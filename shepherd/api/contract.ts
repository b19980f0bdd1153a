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
 *   PUT    /v1/images/:name                               body ImageBody -> Mutation<ImageView>
 *   PUT    /v1/blobs/:sha256                              raw body; 201 once stored and verified; HEAD asks whether it is there
 *   GET    /v1/networks/:id /v1/machines/:id /v1/links/:id /v1/images/:id       the view, or 404; lists without :id take ?environment=
 *   GET    /v1/machines?environment=ring&name=rank-0      lookup by natural key (import); also networks, links (?machines=a,b), images (?name=)
 *   PATCH  /v1/environments/:id /v1/machines/:id /v1/links/:id     body …Patch -> Mutation<…View>
 *   DELETE /v1/networks/:id /v1/machines/:id /v1/links/:id /v1/images/:id       -> Mutation<null>
 *   POST   /v1/requests         body RequestBody -> 200|202 RequestAnswer; ?dry_run=1 decides and plans, changes nothing
 *   GET    /v1/approvals?environment=&state=             ApprovalView[]: requests that wait (or waited) for named people
 *   GET    /v1/requests/:id/approval?wait_ms=            ApprovalView; returns when it is no longer pending or the wait is over
 *   POST   /v1/requests/:id/approve|reject|withdraw      body VoteBody -> ApprovalView
 *   POST   /v1/requests/:id/plan                         RequestAnswer: planned whatever policy says, nothing granted (what break-glass names)
 *   POST   /v1/requests/:id/break-glass                  body BreakGlassBody -> RequestAnswer
 *   POST   /v1/what-if          body WhatIfBody -> WhatIfAnswer     POST /v1/machines/:id/why-not  body WhyNotBody -> WhyNotAnswer
 *   GET    /v1/recalls          POST /v1/recalls  body RecallBody -> RecallView     DELETE /v1/recalls/:id
 *   GET    /v1/exemptions       POST /v1/exemptions  body ExemptionBody -> ExemptionView     DELETE /v1/exemptions/:id
 *   GET    /v1/audit            AuditReport: standing state against the policies of now
 *   GET    /v1/requests/:id     GET /v1/decisions  GET /v1/decisions/:id   GET /v1/decisions/:id/explanation -> Explanation
 *   GET    /v1/operations       GET /v1/operations/:id?wait_ms=  (returns when it ended or the wait is over)   POST /v1/operations/:id/cancel
 *   GET    /v1/operations/:id/steps                      StepView[]
 *   GET    /v1/adaptations?environment=                   AdaptationView[]
 *   GET    /v1/adaptations/rows?environment=              AdaptationRow[]: what stands in adaptations.json
 *   GET    /v1/events           SSE, id = journal sequence, Last-Event-ID or ?since= resumes; ?once=1 answers JSON
 *   GET    /v1/hold             PUT /v1/hold body HoldBody     DELETE /v1/hold
 *   GET    /v1/evidence/verify  EvidenceReport               GET /v1/evidence?since=&limit=
 *   POST   /v1/tokens           body TokenBody -> TokenAnswer (the token is shown this once)    GET /v1/tokens
 *   GET    /metrics  GET /openapi.json
 * Lists answer { items: [...] }. PUT is create by natural key: it adopts an unclaimed object and re-attaches to its
 * running operation; a claimed one is 409 `conflict.exists`. A claim is made by GET :id, PATCH or DELETE with the id.
 * Every mutating call may carry `Idempotency-Key`; the same key answers the same.
 */
import type { Event } from "#model/event";
import type { Hold, SiteFacts } from "#model/facts";
import type { FaultData } from "#model/fault";
import type { Envelope, MachineEffective } from "#model/objects";
import type { Operation, Plan, StepRecord } from "#model/plan";
import type { Adaptation, Consent, Decision, Finding, Request } from "#model/request";
import type { Wire } from "#model/wire";

export interface EnvironmentBody {
  /** Absent: the principal that declares it (the token's name, or local-root). */
  owner?: string | null;
  class: string;
  sites: string[];
}
export type EnvironmentPatch = Partial<EnvironmentBody>;
export interface EnvironmentView extends EnvironmentBody {
  owner: string;
  id: string;
  name: string;
  version: number;
}

export interface NetworkBody {
  cidr: string;
}
export interface NetworkView extends NetworkBody {
  id: string;
  environment_id: string;
  name: string;
  vni: number;
  mtu: number;
  version: number;
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
export interface MachineBody {
  group?: string | null;
  speaker?: boolean;
  class?: string | null;
  image_id: string;
  /** Baselines. Absent: the shepherd's defaults (1 vCPU, 100 %, 256 MiB, first site of the environment). */
  vcpus?: number | null;
  cpu_percent?: number | null;
  memory_mib?: number | null;
  site?: string | null;
  adaptation?: Wire<Envelope> | null;
  networks: { network_id: string; address?: string | null }[];
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
  site: string;
  adaptation: Wire<Envelope>;
  networks: { network_id: string; address: string; mac: string }[];
  ceiling: { vcpus: number; memory_mib: number };
  effective: MachineEffectiveView;
  /** Attributes whose live value no adaptation explains: foreign drift. Settling memory is not drift. */
  drift: {
    attribute: "vcpus" | "cpu_percent" | "memory_mib" | "site";
    expected: number | string;
    actual: number | string;
  }[];
  version: number;
}

export interface LinkBody {
  machines: [string, string];
  rate_mbps: number;
}
export interface LinkPatch {
  rate_mbps: number;
}
export interface LinkView extends LinkBody {
  id: string;
  environment_id: string;
  effective: { rate_mbps: number; adaptation_id: string | null; lease_until_ms: number | null };
  version: number;
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
  method: "resize" | "rate" | "move" | "release" | "forecast";
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
  decision: string;
  /** What would be done. */
  plan: Wire<Plan>;
  plan_digest: string;
  /** Why it waits, and anything else that rules said. */
  findings: Wire<Finding>[];
  votes: { by: string; verdict: "approve" | "reject"; reason: string; at_ms: number }[];
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
export interface HoldBody {
  scope: HoldView["scope"];
  reason: string;
  for_ms?: number;
}

export interface TokenBody {
  name: string;
  role: "operator" | "approver" | "reader" | "stack";
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
  /** Rendered for a terminal, one fact a line. */
  text: string;
}
export interface EvidenceReport {
  ok: boolean;
  entries: number;
  head: string;
  /** First entry whose hash or link does not fit. */
  broken_at: number | null;
}
export interface Status {
  version: string;
  world: "libvirt" | "simulated";
  now_ms: number;
  sites: SiteView[];
  environments: { name: string; owner: string; class: string; machines: MachineView[] }[];
  operations: OperationView[];
  holds: HoldView[];
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
