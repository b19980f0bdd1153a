/**
 * The policy engine of one owner: a bundle, its worker and the door around it. Every question gets an answer; what goes
 * wrong on the way is an answer that denies and says why. Knows nothing of other owners.
 */
import { Fault, toFaultData } from "#model/fault";
import type { Finding, Limits } from "#model/request";
import { buildBundle, type PolicyBundle } from "#opa/bundle";
import { inputProblems, instanceProblems, outputProblems, selfProblems } from "#opa/door";
import { Sandbox, type SandboxLimits, type SandboxOutcome, standardLimits } from "#opa/sandbox";
import { sorted } from "#opa/sorted";
import type { PolicyInput } from "#policy/input";
import type { PolicyOutput, PolicySelf } from "#policy/output";
import type { PolicyAnswer, PolicyEngine, PolicyEntrypoint } from "#ports/policy-engine";

/** Longer inputs are refused; 128 machines take 100 KiB. */
const inputLimitChars = 4 << 20;
const entrypoints = ["decision", "plan_check", "self"];

/**
 * Loads a bundle: starts its worker, checks contract version, entrypoints, built-ins and the parameters of all
 * instances. Faults `policy.bundle_invalid`, `policy.data_invalid`.
 */
export async function loadPolicy(
  bundle: PolicyBundle,
  limits: SandboxLimits = standardLimits,
): Promise<PolicyEngine> {
  const sandbox = new Sandbox({ wasm: bundle.wasm, data: bundle.data, entrypoints }, limits);
  try {
    checkSelf(bundle, await sandbox.open());
  } catch (error) {
    await sandbox.close();
    throw error;
  }
  return {
    owner: bundle.owner,
    evaluate: (entrypoint, input) => evaluate({ bundle, sandbox }, entrypoint, input),
    close: () => sandbox.close(),
  };
}

/** From a folder to an engine; see buildBundle and loadPolicy for the faults. */
export async function openPolicy(source: {
  readonly owner: string;
  readonly folder: string;
}): Promise<PolicyEngine> {
  return loadPolicy(await buildBundle(source));
}

/** Stands in for an owner whose policy cannot be loaded: denies everything and says why. Fail closed, never absent. */
export function absentPolicy(owner: string, why: unknown): PolicyEngine {
  const { code, message } = toFaultData(why);
  return {
    owner,
    evaluate: async (entrypoint) =>
      denial(
        { owner, entrypoint, policyDigest: "", dataDigest: "", durationMs: 0 },
        "policy.absent",
        `no policy of ${owner} is loaded: ${code}: ${message}`,
      ),
    close: async () => {},
  };
}

function checkSelf(bundle: PolicyBundle, outcome: SandboxOutcome): void {
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
  const unfit = inputProblems(entrypoint, input);
  if (unfit.length > 0) return denial(asked(), "policy.input_invalid", unfit.join("; "));
  const text = JSON.stringify(input);
  if (text.length > inputLimitChars)
    return denial(asked(), "policy.input_invalid", `input of ${text.length} characters`);
  const outcome = await sandbox.evaluate(entrypoint, text);
  if (outcome.kind === "timeout") return denial(asked(), "policy.timeout", outcome.problem);
  if (outcome.kind === "overloaded") return denial(asked(), "policy.overloaded", outcome.problem);
  if (outcome.kind === "trap") return denial(asked(), "policy.error", outcome.problem);
  const said = onlyResult(outcome.results);
  const nonsense = outputProblems(said);
  if (nonsense.length > 0)
    return denial(
      asked(),
      "policy.error",
      `the answer breaks the contract: ${nonsense.join("; ")}`,
    );
  return { ...asked(), ...toAnswer(bundle.owner, said as PolicyOutput) };
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
    obligations: sorted(obligations),
    limits: toLimits(limits),
  };
}

function toLimits({ max_downtime_ms, max_mbps, ttl_ms }: PolicyOutput["limits"]): Limits {
  return { maxDowntimeMs: max_downtime_ms, maxMbps: max_mbps, ttlMs: ttl_ms };
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

function denial(
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
