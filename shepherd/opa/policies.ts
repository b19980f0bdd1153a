/**
 * The policies of all owners while the shepherd runs, as the other rooms see them: what is in force, activating, rolling
 * back, trying. live-policies.ts does it.
 */
import type { Logger } from "pino";
import type { FaultData } from "#model/fault";
import type { Ms } from "#model/units";
import type { ActivationStep, Override, PolicyLimits } from "#opa/activation";
import type { WholeBundle } from "#opa/archive";
import type { Generation, Generations } from "#opa/generations";
import { LivePolicies } from "#opa/live-policies";
import type { TrustedKey } from "#opa/signatures";
import type { PolicySlot } from "#opa/slot";
import type { Trials } from "#opa/trials";
import type { FlipReport } from "#policy/flips";
import type { PolicySelf } from "#policy/output";
import type { ExactnessReport, ReplayRange } from "#policy/replay";
import type { Clock, Ids } from "#ports/clock";
import type { PolicyEngine } from "#ports/policy-engine";
import type { Store } from "#ports/store";

/** Where an owner's policy comes from: a folder of sources on this machine, or what they publish. */
export type PolicySource =
  | { readonly kind: "folder"; readonly folder: string }
  | {
      readonly kind: "bundle";
      readonly source: string;
      readonly keys: readonly TrustedKey[];
      readonly activation: "manual" | "automatic";
      readonly pollMs: Ms;
      readonly maxStaleMs?: Ms | undefined;
      readonly tokenFile?: string | undefined;
    };

/** What is known of one owner's policy. */
export interface PolicyState {
  readonly owner: string;
  readonly source: string;
  readonly activation: "manual" | "automatic" | "folder";
  /** In force; undefined: nothing is, and everything of this owner is denied. */
  readonly active: Generation | undefined;
  readonly self: PolicySelf | undefined;
  readonly data: WholeBundle["data"] | undefined;
  readonly generations: readonly Generation[];
  readonly isStale: boolean;
  /** Published and genuine, and not in force. */
  readonly staged: string | undefined;
  /** Why the last look or activation failed. */
  readonly problem: FaultData | undefined;
  readonly lastRequestMs: Ms | undefined;
  readonly lastDownloadMs: Ms | undefined;
  readonly shadow: PolicySlot["shadow"];
}

export interface ActivationReport {
  readonly owner: string;
  readonly generation: Generation;
  readonly steps: readonly ActivationStep[];
  readonly flips: FlipReport | undefined;
  readonly overridden: boolean;
}

export interface Policies {
  /** What the gate asks, by owner; what stands behind a name is changed between two questions. */
  readonly engines: ReadonlyMap<string, PolicyEngine>;
  readonly trials: Trials;
  /** An owner who comes while the shepherd runs. Faults of a folder's bundle; then the owner is not there. */
  add(owner: string, folder: string): Promise<void>;
  /** An owner who has gone. What they decided is kept. */
  remove(owner: string): Promise<void>;
  states(): Promise<readonly PolicyState[]>;
  /** Fault `object.unknown`. */
  state(owner: string): Promise<PolicyState>;
  /** Takes what the source has now. Faults of checkBundle, `policy.no_candidate`, `policy.source_unreachable`. */
  activate(
    owner: string,
    who: { readonly by: string; readonly override?: Override | undefined },
  ): Promise<ActivationReport>;
  /** Back to a kept generation, without a replay: this is for when the new one hurts. Fault `policy.no_generation`. */
  rollback(
    owner: string,
    who: { readonly by: string; readonly reason: string; readonly generation?: number | undefined },
  ): Promise<ActivationReport>;
  /** A candidate overhears live requests until then. */
  shadow(
    owner: string,
    order: { readonly packed: Uint8Array; readonly by: string; readonly untilMs: Ms },
  ): Promise<PolicyState>;
  endShadow(owner: string): Promise<PolicyState>;
  /** Repeats recorded decisions with the very policies that made them. */
  verifyReplay(range: ReplayRange): Promise<ExactnessReport>;
  /** The Rego behind a decision. */
  sources: Generations["sources"];
  /** Looks at sources from now on. */
  start(): void;
  stop(): Promise<void>;
}

export interface PoliciesOptions {
  readonly sources: ReadonlyMap<string, PolicySource>;
  readonly limits?: PolicyLimits | undefined;
  readonly generations: Generations;
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}

/** Opens every owner's last good policy. Never rejects for a bad one: that owner denies, and the log says why. */
export async function openPolicies(options: PoliciesOptions): Promise<Policies> {
  const policies = new LivePolicies(options);
  await policies.open();
  return policies;
}
