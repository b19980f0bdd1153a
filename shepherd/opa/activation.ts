/**
 * Everything a bundle must pass before it speaks for its owner: signature, contract, sources, built-ins and entrypoints,
 * its own vectors, and what it would have done to the last decisions. Each step that passed is told with its time; the
 * first that does not ends it with a fault, and the policy in force stays in force.
 */
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import { readBundle, type WholeBundle } from "#opa/archive";
import { checkBundle as checkRego } from "#opa/check-sources";
import { openCrew } from "#opa/crew";
import { type LoadedPolicy, loadPolicy } from "#opa/engine";
import { holdOrdinary } from "#opa/ordinary";
import type { TrustedKey } from "#opa/signatures";
import { refuseProblems } from "#opa/sources";
import { checkVectors } from "#opa/vectors";
import type { FlipReport } from "#policy/flips";
import { type ReplayProgress, replayHistory } from "#policy/replay";
import type { Store } from "#ports/store";

export interface ActivationStep {
  readonly step: "signature" | "sources" | "load" | "vectors" | "replay";
  /** What was looked at, in a few words. */
  readonly told: string;
  readonly durationMs: Ms;
}

export interface FlipLimit {
  /** Decisions of this owner that are asked again. */
  readonly last: number;
  readonly maxFlips: number;
  readonly sinceMs?: Ms | undefined;
}

/** How much a new policy may change before a person must say why. */
export interface PolicyLimits {
  readonly replayLast: number;
  readonly maxFlips: number;
}
export const standardPolicyLimits: PolicyLimits = { replayLast: 500, maxFlips: 10 };

/** A named person who takes it upon themselves. */
export interface Override {
  readonly by: string;
  readonly reason: string;
}

export interface Checked {
  readonly bundle: WholeBundle;
  /** Loaded and warm; the caller closes it when it does not use it. */
  readonly engine: LoadedPolicy;
  readonly steps: readonly ActivationStep[];
  readonly flips: FlipReport;
  /** The flip limit was passed by the override. */
  readonly overridden: boolean;
}

/** Which owners' questions the bundle of this owner answers. */
export function speaksFor(owner: string, owners: Iterable<string>): (asked: string) => boolean {
  if (owner !== "owner:*") return (asked) => asked === owner;
  const others = new Set(owners);
  return (asked) => asked.startsWith("owner:") && !others.has(asked);
}

/**
 * Takes bytes (to be verified) or a bundle just compiled from the owner's own folder. Faults `policy.signature_invalid`,
 * `policy.contract_unknown`, `policy.bundle_invalid`, `policy.source_invalid`, `policy.data_invalid`,
 * `policy.undecided`, `policy.vectors_failed`, `policy.flips`.
 */
export async function checkBundle(options: {
  readonly owner: string;
  readonly candidate:
    | { readonly packed: Uint8Array; readonly keys: readonly TrustedKey[] | "unsigned" }
    | { readonly built: WholeBundle };
  readonly store: Store;
  readonly speaksFor: (owner: string) => boolean;
  readonly limit: FlipLimit;
  readonly override?: Override | undefined;
  readonly onProgress?: ((progress: ReplayProgress) => void) | undefined;
  /** Aborted: the replay ends with what it has. */
  readonly signal?: AbortSignal | undefined;
}): Promise<Checked> {
  const { owner, candidate, limit, override } = options;
  const steps: ActivationStep[] = [];
  const stepped = async <T>(
    step: ActivationStep["step"],
    work: () => T | Promise<T>,
    told: (result: T) => string,
  ): Promise<T> => {
    const begunMs = performance.now();
    const result = await work();
    steps.push({ step, told: told(result), durationMs: Math.round(performance.now() - begunMs) });
    return result;
  };

  const bundle = await stepped(
    "signature",
    () =>
      "built" in candidate
        ? candidate.built
        : readBundle(candidate.packed, { owner, ...candidate }),
    ({ revision }) =>
      "built" in candidate
        ? `revision ${revision}, compiled from the owner's folder`
        : candidate.keys === "unsigned"
          ? `revision ${revision}, signature not looked at: it is only tried`
          : `revision ${revision} is signed by its owner`,
  );
  await stepped(
    "sources",
    () => refuseProblems(bundle.owner, checkRego(bundle.sources)),
    () => `${bundle.sources.length} files of Rego`,
  );
  const engine = await stepped(
    "load",
    () => loadPolicy(bundle),
    ({ self }) => `${Object.keys(self.rules).length} rules, ${instancesOf(bundle)} instances`,
  );
  try {
    await stepped(
      "vectors",
      () => holdVectors(bundle, engine),
      (asked) => `an ordinary request gets a verdict, ${asked} vectors hold`,
    );
    const flips = await stepped(
      "replay",
      () => replay(options, { bundle, engine }),
      (report) =>
        `${report.flips} of ${report.replayed} decisions would flip${report.unfit === 0 ? "" : `, ${report.unfit} could not be asked again`}`,
    );
    const tooMany = flips.flips > limit.maxFlips;
    if (tooMany && override === undefined) throw flipFault(owner, flips, limit);
    return { bundle, engine, steps, flips, overridden: tooMany };
  } catch (error) {
    await engine.close();
    throw error;
  }
}

/** More than this is worth starting further workers for. */
const crewFrom = 1_000;

async function replay(
  { store, speaksFor: asks, limit, onProgress, signal }: Parameters<typeof checkBundle>[0],
  { bundle, engine }: { readonly bundle: WholeBundle; readonly engine: LoadedPolicy },
): Promise<FlipReport> {
  const crew = limit.last > crewFrom ? await openCrew(bundle) : undefined;
  try {
    return await replayHistory({
      store,
      engine: crew ?? engine,
      speaksFor: asks,
      range: { last: limit.last, sinceMs: limit.sinceMs },
      onProgress,
      signal,
    });
  } finally {
    await crew?.close();
  }
}

function flipFault(owner: string, report: FlipReport, limit: FlipLimit): Fault {
  const { flips, replayed, unfit, unfit_by, by_rule, by_environment, by_subject, examples } =
    report;
  return new Fault("policy.flips", {
    owner,
    flips,
    replayed,
    unfit,
    unfit_by,
    limit: limit.maxFlips,
    by_rule,
    by_environment,
    by_subject,
    examples: examples.slice(0, 10),
  });
}

async function holdVectors(bundle: WholeBundle, engine: LoadedPolicy): Promise<number> {
  await holdOrdinary(bundle, engine);
  if (bundle.vectors === undefined) return 0;
  const problems = await checkVectors(bundle, bundle.vectors);
  const [first] = problems;
  if (first !== undefined)
    throw new Fault("policy.vectors_failed", {
      owner: bundle.owner,
      failed: problems.length,
      vectors: bundle.vectors.vectors.length,
      problem: `${first.name}: ${first.problem}`,
    });
  return bundle.vectors.vectors.length;
}

function instancesOf({ data }: WholeBundle): number {
  return Object.values(data.drover.constraints).reduce(
    (total, instances) => total + Object.keys(instances).length,
    0,
  );
}
