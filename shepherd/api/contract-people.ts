/**
 * What the interface says about people's part in decisions: recalls, exemptions, breaking the glass, and the questions
 * what-if, why-not and audit. Erased types only; the paths stand in contract.ts.
 */
import type { RequestAnswer, RequestBody } from "#api/contract";
import type { Exemption, Recall, SignedBreakGlass } from "#model/consent";
import type { OwedObligation } from "#model/obligation";
import type { Consent, Finding } from "#model/request";
import type { Wire } from "#model/wire";

export interface RecallBody {
  site: string;
  environment: string;
  machine?: string;
  reason: string;
  /** Until then its machines should be gone; they are moved out at once, as far as there is room elsewhere. */
  deadline_ms: number;
}
export type RecallView = Wire<Recall> & {
  environment: string;
  machine: string | null;
  /** Machines that are still there. */
  left: string[];
};

export interface ExemptionBody {
  /** Whose rule: `operator`, `site:north`, `owner:alice`. */
  owner: string;
  rule: string;
  instance: string;
  environments: string[];
  expires_at_ms: number;
  ticket: string;
  reason: string;
}
export type ExemptionView = Wire<Exemption> & {
  state: "proposed" | "in_force" | "expired";
};

/** What a policy demanded with a yes. */
export type ObligationView = Wire<OwedObligation> & {
  environment: string;
  /** Names. */
  machines: string[];
};
export interface ReviewBody {
  reason: string;
}

export type BreakGlassBody = SignedBreakGlass;

/**
 * Either a decided request, by the id of request or decision, or one that nobody made. Keys of `set` without a dot change
 * the ask (`memory_mib`), and it is decided on the facts of now; keys with dots change what policy saw at that decision
 * (`environment.class`), and every owner's policy of now is asked again.
 */
export interface WhatIfBody {
  id?: string;
  request?: RequestBody;
  set: Record<string, string | number | boolean>;
}
export interface WhatIfAnswer {
  /** What it was decided on: the facts of now, or the input of a decision. */
  on: "now" | "decision";
  before: { verdict: string; code: string; message: string } | null;
  after: RequestAnswer;
  consents: Wire<Consent>[];
  /** Findings that differ, by owner, rule and instance. */
  flips: { owner: string; rule: string; id: string; before: string; after: string; msg: string }[];
}

export interface WhyNotBody {
  vcpus?: number;
  cpu_percent?: number;
  memory_mib?: number;
  site?: string;
}
export interface WhyNotAnswer {
  machine: string;
  environment: string;
  /** What was looked at: the values given, or the machine's last ask that was not granted. */
  asked: WhyNotBody;
  /** Of a request that was really made; null when the values were given. */
  request: string | null;
  verdict: RequestAnswer["verdict"];
  code: string;
  message: string;
  findings: Wire<Finding>[];
  /** Each was tried and would be granted now; null when nothing between now and the ask would be. */
  nearest: WhyNotBody | null;
  /** The same ask at each site it may use. */
  sites: { site: string; verdict: RequestAnswer["verdict"]; code: string; message: string }[];
  tried: number;
}

export interface AuditFinding {
  environment: string;
  owner: string;
  rule: string;
  id: string;
  level: string;
  code: string | null;
  msg: string;
  path: string | null;
  /** Where the rule stands, when the sources are there. */
  source: { file: string; line: number } | null;
  first_seen_ms: number;
}
export interface AuditReport {
  at_ms: number;
  environments: number;
  /** Rule instances that were asked. */
  checks: number;
  findings: AuditFinding[];
}
