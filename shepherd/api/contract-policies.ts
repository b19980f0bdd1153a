/**
 * The wire shapes of policies: what is in force, activations, trials and shadows. Types only; routes/policies.ts speaks
 * them, `drover policy` reads them.
 *
 *   GET    /v1/policies                    PolicyView of every owner
 *   GET    /v1/policies/:owner             PolicyDetail: rules and instances too
 *   POST   /v1/policies/:owner/activate    body ActivateBody -> ActivationView; 409 `policy.flips` with the report
 *   POST   /v1/policies/:owner/rollback    body RollbackBody -> ActivationView
 *   POST   /v1/policies/:owner/trials      a bundle's bytes, ?last= ?since_ms= -> TrialView    GET /v1/policy-trials/:id
 *   PUT    /v1/policies/:owner/shadow      a bundle's bytes, ?for_ms= -> PolicyView            DELETE ends it
 *   GET    /v1/policy-replay?last=         ExactnessView
 */
import type { FlipReport, UnfitCount } from "#policy/flips";

export type { Flip, FlipCounts, FlipReport, UnfitCount } from "#policy/flips";

export interface GenerationView {
  n: number;
  revision: string;
  policy_digest: string;
  data_digest: string;
  activated_at_ms: number;
  by: string;
  reason: string | null;
}
export interface PolicyView {
  owner: string;
  /** Folder, file, directory or URL. */
  source: string;
  activation: "manual" | "automatic" | "folder";
  /** In force; null: everything of this owner is denied. */
  active: GenerationView | null;
  /** Newest first; three are kept. */
  generations: GenerationView[];
  is_stale: boolean;
  /** Revision that is published and waits. */
  staged: string | null;
  problem: { code: string; message: string } | null;
  last_request_ms: number | null;
  last_download_ms: number | null;
  shadow: ShadowView | null;
}
export interface ShadowView {
  revision: string;
  by: string;
  since_ms: number;
  until_ms: number;
  /** Live requests that it did not overhear, because too many came at once. */
  missed: number;
  report: FlipReport;
}
export interface PolicyDetail extends PolicyView {
  rules: RuleView[];
}
export interface RuleView {
  rule: string;
  title: string;
  description: string;
  disclose: "owner" | "operator";
  /** JSON Schema of an instance's parameters. */
  params: Readonly<Record<string, unknown>>;
  instances: { id: string; level: string; params: Readonly<Record<string, unknown>> }[];
}
export interface ActivateBody {
  /** Passes the flip limit; only a named person may say it. */
  override_reason?: string;
}
export interface RollbackBody {
  reason: string;
  generation?: number;
}
export interface ActivationView {
  owner: string;
  generation: GenerationView;
  steps: { step: string; told: string; duration_ms: number }[];
  flips: FlipReport | null;
  overridden: boolean;
}
export interface TrialView {
  id: string;
  owner: string;
  by: string;
  state: "running" | "done" | "failed";
  begun_at_ms: number;
  duration_ms: number;
  /** Decisions recorded when it began: at most so many will be read. */
  recorded: number;
  progress: { read: number; replayed: number; flips: number };
  report: FlipReport | null;
  problem: { code: string; message: string; hint: string } | null;
}
export interface ExactnessView {
  replayed: number;
  differing: { decision: string; owner: string; recorded: string; replayed: string }[];
  missing: number;
  unanswered: number;
  unfit: number;
  unfit_by: readonly UnfitCount[];
}
