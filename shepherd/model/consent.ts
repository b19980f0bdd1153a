/**
 * What people add to a decision: approvals of a plan, a site's recalled consent, an exemption from a rule, and the
 * document that breaks the glass. Plain data, journaled as it stands here; policy/ says what may become of it.
 */
import type {
  DecisionId,
  Digest,
  EnvironmentId,
  MachineId,
  Ms,
  OperationId,
  PlanId,
  RequestId,
  SiteId,
} from "#model/units";

export interface Vote {
  /** Name of the token; never local-root, never who asked. */
  readonly by: string;
  /** The person behind it, where the token names one. */
  readonly human?: string | undefined;
  readonly verdict: "approve" | "reject";
  readonly reason: string;
  readonly atMs: Ms;
}

/** `denied`: approved, but policy or the planner says no by now. `withdrawn`: by who asked, or by a newer ask. */
export type ApprovalState =
  | "pending"
  | "approved"
  | "rejected"
  | "expired"
  | "withdrawn"
  | "denied";

/** What one owner wants before a plan is granted. */
export interface ApprovalDemand {
  readonly owner: string;
  /** Distinct people. */
  readonly needs: number;
  /** Whose yes counts; absent: anybody's who may approve. */
  readonly approvers?: readonly string[] | undefined;
}

/** A request that waits for named people. Votes are for one plan's digest and for nothing else. */
export interface Approval {
  readonly requestId: RequestId;
  readonly environmentId: EnvironmentId;
  /** The decision that wants it. */
  readonly decisionId: DecisionId;
  readonly planId: PlanId;
  readonly planDigest: Digest;
  /** Distinct people that must say yes. */
  readonly needs: number;
  /** Owners whose policy wants it: `operator`, `site:north`. */
  readonly wantedBy: readonly string[];
  /** What each of them wants; absent in records of before. */
  readonly demands?: readonly ApprovalDemand[] | undefined;
  readonly votes: readonly Vote[];
  readonly state: ApprovalState;
  readonly askedAtMs: Ms;
  readonly expiresAtMs: Ms;
  readonly endedAtMs?: Ms | undefined;
  readonly operationId?: OperationId | undefined;
  /** How it ended, in one line. */
  readonly outcome?: string | undefined;
  /** What was asked, without id and time: the same ask again finds this one instead of a second. */
  readonly askDigest: Digest;
  /** The declarations it was asked on; another one since voids the ask. By machine or link id. */
  readonly specDigests: Readonly<Record<string, Digest>>;
}

/** A site's owner wants machines gone: moved out until the deadline, never killed. */
export interface Recall {
  readonly id: string;
  readonly siteId: SiteId;
  readonly environmentId: EnvironmentId;
  /** One machine of it; absent = all of the environment's machines at the site, also later ones. */
  readonly machineId?: MachineId | undefined;
  readonly by: string;
  readonly reason: string;
  readonly sinceMs: Ms;
  readonly deadlineMs: Ms;
  /** Set while the deadline is over and a machine is still there; somebody must act. */
  readonly overdueSinceMs?: Ms | undefined;
}

/** One rule instance does not hold for these environments until it expires. Effective once a second person approved it. */
export interface Exemption {
  readonly id: string;
  /** Whose bundle the rule stands in; no other owner's rule is touched. */
  readonly owner: string;
  readonly rule: string;
  readonly instance: string;
  /** Names, as policy sees them. */
  readonly environments: readonly string[];
  readonly expiresAtMs: Ms;
  readonly ticket: string;
  readonly reason: string;
  readonly proposedBy: string;
  /** The person behind that token, where it names one. */
  readonly proposedByHuman?: string | undefined;
  readonly proposedAtMs: Ms;
  readonly approvedBy?: string | undefined;
  readonly approvedAtMs?: Ms | undefined;
}

/** What an offline key signs: one plan, for at most an hour. Field names are the document's own. */
export interface BreakGlassDocument {
  readonly purpose: "drover-break-glass-1";
  readonly plan_digest: Digest;
  readonly by: string;
  readonly reason: string;
  readonly not_before_ms: Ms;
  readonly expires_at_ms: Ms;
}
export interface SignedBreakGlass {
  readonly document: BreakGlassDocument;
  /** Base64 of the Ed25519 signature over the document as canonical JSON. */
  readonly signature: string;
}
