/**
 * The policy engine of one owner: a bundle, its worker and the door around it. Every question gets an answer; what goes
 * wrong on the way is an answer that denies and says why. Knows nothing of other owners.
 */
import { Fault, toFaultData } from "#model/fault";
import { Recent } from "#model/recent";
import type { AvoidedPlace, Finding, Limits } from "#model/request";
import { buildBundle, type PolicyBundle } from "#opa/bundle";
import { inputProblems, instanceProblems, outputProblems, selfProblems } from "#opa/door";
import {
  Sandbox,
  type SandboxLimits,
  type SandboxOutcome,
  selfEntrypoint,
  standardLimits,
} from "#opa/sandbox";
import { sorted } from "#opa/sorted";
import { withConstraints } from "#policy/constraints";
import type { PolicyInput } from "#policy/input";
import type { PolicyOutput, PolicySelf } from "#policy/output";
import type {
  PolicyAnswer,
  PolicyEngine,
  PolicyEntrypoint,
  PolicyQuery,
  PolicyValue,
} from "#ports/policy-engine";

/** Longer inputs are refused; 128 machines take 100 KiB. */
const inputLimitChars = 4 << 20;
/** What every bundle must answer; `audit`, `roles` and the mask may be missing, and then have no value. */
const entrypoints = ["drover/main/decision", "drover/main/plan_check", selfEntrypoint];
const queryPaths: Readonly<Record<PolicyQuery, string>> = {
  roles: "drover/main/roles",
  mask: "system/log/mask",
};

/** An engine with its worker's figures; what replay and benches want to know beyond the port. */
export interface LoadedPolicy extends PolicyEngine {
  readonly bundle: PolicyBundle;
  /** Contract version and rules, as the module said when it was loaded. */
  readonly self: PolicySelf;
  /** WASM memory after the last answer. */
  readonly memoryBytes: number;
}

/**
 * Loads a bundle: starts its worker, checks contract version, entrypoints, built-ins and the parameters of all
 * instances. Faults `policy.bundle_invalid`, `policy.data_invalid`.
 */
export async function loadPolicy(
  bundle: PolicyBundle,
  limits: SandboxLimits = standardLimits,
): Promise<LoadedPolicy> {
  const sandbox = new Sandbox({ wasm: bundle.wasm, data: bundle.data, entrypoints }, limits);
  let self: PolicySelf;
  try {
    self = checkSelf(bundle, await sandbox.open());
  } catch (error) {
    await sandbox.close();
    throw error;
  }
  return {
    owner: bundle.owner,
    bundle,
    self,
    get memoryBytes() {
      return sandbox.memoryBytes;
    },
    evaluate: (entrypoint, input) => evaluate({ bundle, sandbox }, entrypoint, input),
    query: (query, input) => ask(sandbox, query, input),
    close: () => sandbox.close(),
  };
}

/** From a folder to an engine; see buildBundle and loadPolicy for the faults. */
export async function openPolicy(source: {
  readonly owner: string;
  readonly folder: string;
}): Promise<LoadedPolicy> {
  return loadPolicy(await buildBundle(source));
}

/** Stands in for an owner whose policy cannot be loaded: denies everything and says why. Fail closed, never absent. */
export function absentPolicy(owner: string, why: unknown): PolicyEngine {
  const { code, message } = toFaultData(why);
  return {
    owner,
    evaluate: async (entrypoint) =>
      deniedAnswer(
        { owner, entrypoint, policyDigest: "", dataDigest: "", durationMs: 0 },
        "policy.absent",
        `no policy of ${owner} is loaded: ${code}: ${message}`,
      ),
    query: async () => ({
      kind: "undecided",
      code: "policy.absent",
      problem: `no policy of ${owner} is loaded: ${code}: ${message}`,
    }),
    close: async () => {},
  };
}

function checkSelf(bundle: PolicyBundle, outcome: SandboxOutcome): PolicySelf {
  const { owner } = bundle;
  if (outcome.kind !== "results")
    throw new Fault("policy.bundle_invalid", { owner, problem: outcome.problem });
  const said = onlyResult(outcome.results);
  const problems = selfProblems(said);
  if (problems.length > 0)
    throw new Fault("policy.bundle_invalid", {
      owner,
      problem: `drover/main/self: ${problems.join("; ")}`,
    });
  const misfits = instanceProblems(bundle.data, said as PolicySelf);
  if (misfits.length > 0)
    throw new Fault("policy.data_invalid", { owner, problem: misfits.join("; ") });
  return said as PolicySelf;
}

async function evaluate(
  { bundle, sandbox }: { readonly bundle: PolicyBundle; readonly sandbox: Sandbox },
  entrypoint: PolicyEntrypoint,
  input: PolicyInput,
): Promise<PolicyAnswer> {
  const begunMs = performance.now();
  const asked = () => ({
    owner: bundle.owner,
    entrypoint,
    policyDigest: bundle.policyDigest,
    dataDigest: bundle.dataDigest,
    durationMs: Math.round((performance.now() - begunMs) * 1_000) / 1_000,
  });
  const prepared = prepare(entrypoint, input);
  if (prepared.problem !== undefined)
    return deniedAnswer(asked(), "policy.input_invalid", prepared.problem);
  // What the environment declares for itself stands beside the bundle's own instances, for this question.
  const data =
    input.constraints === undefined ? undefined : withConstraints(bundle.data, input.constraints);
  const outcome = await sandbox.evaluate(`drover/main/${entrypoint}`, prepared.text, data);
  if (outcome.kind !== "results") return deniedAnswer(asked(), codeOf(outcome), outcome.problem);
  const said = onlyResult(outcome.results);
  const nonsense = outputProblems(said);
  if (nonsense.length > 0)
    return deniedAnswer(
      asked(),
      "policy.indeterminate",
      `the answer breaks the contract: ${nonsense.join("; ")}`,
    );
  return { ...asked(), ...toAnswer(bundle.owner, said as PolicyOutput) };
}

/** Why there is no verdict. */
function codeOf({ kind }: Exclude<SandboxOutcome, { readonly kind: "results" }>): string {
  switch (kind) {
    case "timeout":
      return "policy.timeout";
    case "overloaded":
      return "policy.overloaded";
    case "trap":
      return "policy.trap";
  }
}

async function ask(sandbox: Sandbox, query: PolicyQuery, input: unknown): Promise<PolicyValue> {
  const outcome = await sandbox.evaluate(queryPaths[query], JSON.stringify(input));
  if (outcome.kind !== "results")
    return { kind: "undecided", code: codeOf(outcome), problem: outcome.problem };
  const value = onlyResult(outcome.results);
  return value === undefined
    ? { kind: "undecided", code: "policy.absent", problem: `${queryPaths[query]} has no value` }
    : { kind: "value", value: sorted(value) };
}

type Prepared =
  | { readonly text: string; readonly problem?: undefined }
  | { readonly problem: string };

/** One decision asks several owners about the same facts: checked and written once. Inputs are never changed after. */
const preparedInputs = new Recent<PolicyInput, Map<PolicyEntrypoint, Prepared>>(4);

function prepare(entrypoint: PolicyEntrypoint, input: PolicyInput): Prepared {
  const known = preparedInputs.get(input);
  const before = known?.get(entrypoint);
  if (before !== undefined) return before;
  const made = checkAndWrite(entrypoint, input);
  if (known === undefined) preparedInputs.set(input, new Map([[entrypoint, made]]));
  else known.set(entrypoint, made);
  return made;
}

function checkAndWrite(entrypoint: PolicyEntrypoint, input: PolicyInput): Prepared {
  const unfit = inputProblems(entrypoint, input);
  if (unfit.length > 0) return { problem: unfit.join("; ") };
  const text = JSON.stringify(input);
  return text.length > inputLimitChars
    ? { problem: `input of ${text.length} characters` }
    : { text };
}

function toAnswer(
  owner: string,
  said: PolicyOutput,
): Pick<PolicyAnswer, "effect" | "findings" | "obligations" | "limits"> {
  const { effect, findings, obligations, limits } = said;
  // WASM returns sets in any order: sort all, so that equal answers have equal digests
  return {
    effect,
    findings: findings
      .map(({ exemption, params, fix, ...finding }) => ({
        ...finding,
        owner,
        params: sorted(exemption === undefined ? params : { ...params, exemption }),
        fix: fix === undefined || Object.keys(fix).length === 0 ? undefined : fix,
      }))
      .toSorted(byRuleAndId),
    obligations: sorted(obligations).map((one) => ({ ...one, owner })),
    limits: toLimits(limits),
  };
}

function toLimits(said: PolicyOutput["limits"]): Limits {
  const { max_downtime_ms, max_mbps, ttl_ms, avoid, apart, together, forbid_rungs } = said;
  return {
    maxDowntimeMs: max_downtime_ms,
    maxMbps: max_mbps,
    ttlMs: ttl_ms,
    ...(avoid === undefined ? {} : { avoid: sorted(avoid).map(toAvoided) }),
    ...(apart === undefined ? {} : { apart: sorted(apart) }),
    ...(together === undefined ? {} : { together: sorted(together) }),
    ...(forbid_rungs === undefined ? {} : { forbidRungs: sorted(forbid_rungs) }),
  };
}

function toAvoided(place: { machine: string; site?: string; host?: string }): AvoidedPlace {
  return {
    machine: place.machine,
    ...(place.site === undefined ? {} : { siteId: place.site }),
    ...(place.host === undefined ? {} : { hostId: place.host }),
  };
}

function byRuleAndId(left: Finding, right: Finding): number {
  const [a, b] = [`${left.rule} ${left.id}`, `${right.rule} ${right.id}`];
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The single value of the SDK's result set; undefined when the entrypoint had none. */
function onlyResult(results: unknown): unknown {
  return Array.isArray(results) && results.length === 1
    ? (results[0] as { result?: unknown }).result
    : undefined;
}

/** An answer that denies for a reason of the engine's own; its finding is of rule `policy`. */
export function deniedAnswer(
  asked: Pick<PolicyAnswer, "owner" | "entrypoint" | "policyDigest" | "dataDigest" | "durationMs">,
  code: string,
  msg: string,
): PolicyAnswer {
  return {
    ...asked,
    effect: "deny",
    findings: [
      {
        rule: "policy",
        id: code,
        code,
        level: "deny",
        ok: false,
        msg,
        params: {},
        owner: asked.owner,
        disclose: "operator",
      },
    ],
    obligations: [],
    limits: {},
  };
}
