/**
 * One owner's policy as the core sees it: a question goes in, an answer comes out, always. An engine that cannot decide
 * denies, with the reason as a finding; it never throws for a bad policy, a crash or an overrun.
 * Implemented by opa/engine.ts. Knows nothing of other owners: policy/combine.ts joins their answers.
 */
import type { Obligation } from "#model/obligation";
import type { Effect, Finding, Limits } from "#model/request";
import type { Digest, Ms } from "#model/units";
import type { PolicyInput } from "#policy/input";

/** `decision` before planning; `plan_check` on the finished plan, just before it is granted; `audit` on standing state. */
export type PolicyEntrypoint = "decision" | "plan_check" | "audit";

/** Questions whose answers are not verdicts: who may do what through the API; what a decision log must not show. */
export type PolicyQuery = "roles" | "mask";

/** `undecided`: a code such as `policy.timeout` or `policy.absent` (no such entrypoint); whoever asked must fail closed. */
export type PolicyValue =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "undecided"; readonly code: string; readonly problem: string };

export interface PolicyAnswer {
  /** Whose bundle: `operator`, `site:north`, `owner:alice`. */
  readonly owner: string;
  readonly entrypoint: PolicyEntrypoint;
  readonly effect: Effect;
  /** One a rule instance, passed ones too; sorted by rule and id. `owner` is filled in. */
  readonly findings: readonly Finding[];
  readonly obligations: readonly Obligation[];
  readonly limits: Limits;
  /** SHA-256 of the compiled policy and of the constraints and exemptions that it ran with. */
  readonly policyDigest: Digest;
  readonly dataDigest: Digest;
  readonly durationMs: Ms;
}

export interface PolicyEngine {
  readonly owner: string;
  /** Never rejects. Refused input, timeout, trap and bad output are answers that deny, with a finding of rule `policy`. */
  evaluate(entrypoint: PolicyEntrypoint, input: PolicyInput): Promise<PolicyAnswer>;
  /** Never rejects. The value is the policy's own words, checked by nobody yet. */
  query(query: PolicyQuery, input: unknown): Promise<PolicyValue>;
  close(): Promise<void>;
}
