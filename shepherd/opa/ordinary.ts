/**
 * What can make every evaluation fail must not wait for the first live one: a bundle is asked an ordinary request
 * before it is put in force, and where it gives no verdict the rule at fault is looked for and named with file and line.
 * Beside activation and `drover policy test`; knows neither signatures nor history.
 */
import { Fault } from "#model/fault";
import type { WholeBundle } from "#opa/archive";
import { describeProblem } from "#opa/check-sources";
import { outputProblems } from "#opa/door";
import type { LoadedPolicy } from "#opa/engine";
import { codeOf, lineAt, packageOf } from "#opa/rego-text";
import { Sandbox, type SandboxOutcome } from "#opa/sandbox";
import { exampleInput } from "#opa/vectors";
import { inputFor } from "#policy/visible";

const noVerdict = new Set(["policy.timeout", "policy.trap", "policy.indeterminate"]);

/** More would be a long list of the same. */
const namedAtMost = 5;

/** Passes when the bundle gives a verdict on an ordinary request. Fault `policy.undecided` names what is at fault. */
export async function holdOrdinary(bundle: WholeBundle, engine: LoadedPolicy): Promise<void> {
  const ordinary = inputFor(bundle.owner, await exampleInput());
  const { findings } = await engine.evaluate("decision", ordinary);
  const failed = findings.find(({ rule, code }) => rule === "policy" && noVerdict.has(code ?? ""));
  if (failed === undefined) return;
  const culprits = await culpritsOf(bundle, JSON.stringify(ordinary));
  throw new Fault("policy.undecided", {
    owner: bundle.owner,
    problem: [`${failed.code}: ${failed.msg}`, ...culprits].join("\n"),
  });
}

/** The instances that give no verdict when they are asked alone; none, when only all of them together do not. */
async function culpritsOf(bundle: WholeBundle, input: string): Promise<readonly string[]> {
  const sandbox = new Sandbox({ wasm: bundle.wasm, data: bundle.data, entrypoints: [] });
  const { constraints } = bundle.data.drover;
  const ask = async (rule: string, instances: object): Promise<string | undefined> => {
    const { drover } = bundle.data;
    const alone = { drover: { ...drover, constraints: { [rule]: instances }, exemptions: [] } };
    return unanswered(await sandbox.evaluate("drover/main/decision", input, alone));
  };
  try {
    const named: string[] = [];
    for (const [rule, instances] of Object.entries(constraints)) {
      if ((await ask(rule, instances)) === undefined) continue;
      for (const [id, instance] of Object.entries(instances)) {
        const problem = await ask(rule, { [id]: instance });
        if (problem !== undefined) named.push(placed(bundle, `${rule}/${id}`, problem));
        if (named.length === namedAtMost) return named;
      }
    }
    return named;
  } finally {
    await sandbox.close();
  }
}

function unanswered(outcome: SandboxOutcome): string | undefined {
  if (outcome.kind !== "results") return outcome.problem;
  const nonsense = outputProblems((outcome.results as { result: unknown }[])[0]?.result);
  return nonsense.length === 0 ? undefined : `the answer breaks the contract: ${nonsense[0]}`;
}

/** With the file as its owner knows it, and the line where its checks begin. */
function placed({ sources }: WholeBundle, which: string, problem: string): string {
  const [rule = ""] = which.split("/");
  const source = sources.find(({ text }) => packageOf(codeOf(text)) === `drover.rules.${rule}`);
  const begins = source === undefined ? -1 : codeOf(source.text).search(/^checks\b/m);
  return describeProblem({
    file: source?.path.replace(/^own\//, "") ?? "data.json",
    line: source === undefined ? 1 : lineAt(source.text, Math.max(begins, 0)),
    problem: `${which} gives no verdict by itself: ${problem}`,
    fix: fixOf(problem),
  });
}

function fixOf(problem: string): string {
  if (problem.includes("conflict")) return "let one head give the value, or join them with `else`";
  if (problem.startsWith("the answer breaks")) return 'write {"ok": …, "msg": …, "params": …}';
  // a loop is often out of memory before it is out of time
  return "go through what the input lists, once each: no long ranges, no products of lists";
}
