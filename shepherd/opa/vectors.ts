/**
 * Vectors: questions with their answers, which travel inside a bundle. When it is built, native OPA answers them and
 * our host must say the same; when it is activated, the shepherd that will run it must still say the same.
 * Written as edits of the example input: `policies/rules/<rule>/vectors.json`, and `tests/vectors.json` of a team.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { canonicalJson } from "#model/canonical";
import { errorCode } from "#model/error-code";
import type { PolicyBundle } from "#opa/bundle";
import { inputProblems, outputProblems } from "#opa/door";
import { askNative } from "#opa/native";
import { Sandbox, type SandboxOutcome } from "#opa/sandbox";
import { sorted } from "#opa/sorted";
import { libraryFolder, type RegoSource } from "#opa/sources";
import type { PolicyData } from "#policy/data";
import type { PolicyInput } from "#policy/input";
import type { PolicyOutput } from "#policy/output";
import type { PolicyEntrypoint } from "#ports/policy-engine";

/** What a person expects of one question; absent keys are not looked at. */
interface Expected {
  readonly effect: PolicyOutput["effect"];
  readonly msg?: string;
  readonly fix?: object;
  readonly code?: string;
}

/** One line of a vectors file. With `params` it asks one instance of `rule`; without, the bundle's own data. */
interface WrittenVector {
  readonly name: string;
  readonly entrypoint: PolicyEntrypoint;
  readonly set: Readonly<Record<string, unknown>>;
  readonly rule?: string;
  readonly params?: Record<string, unknown>;
  readonly expected: Expected;
  /** `level`, `match`, `levels` and what else an instance may have. */
  readonly [key: string]: unknown;
}

export interface Vector {
  readonly name: string;
  readonly entrypoint: PolicyEntrypoint;
  /** JSON pointers and their values, put into the example. */
  readonly set: Readonly<Record<string, unknown>>;
  /** Absent: the bundle's own data. */
  readonly data?: PolicyData;
  readonly rule?: string;
  readonly expected?: Expected;
  /** What native OPA said when the bundle was built; sorted. */
  readonly answer?: unknown;
}

export interface VectorFile {
  readonly example: PolicyInput;
  readonly vectors: readonly Vector[];
}

/** A vector that does not hold; `problem` says what was expected and what came. */
export interface VectorProblem {
  readonly name: string;
  readonly problem: string;
}

const notOfInstance = new Set(["name", "entrypoint", "set", "rule", "expected"]);

/** An ordinary request of an ordinary environment: what vectors are edits of. */
export async function exampleInput(): Promise<PolicyInput> {
  return (await readJson(join(libraryFolder, "schemas/example-input.json"))) as PolicyInput;
}

/** The rules' own vectors and those of the bundle's folder (`tests/vectors.json`). Throws Error for a broken file. */
export async function readVectors(folder: string): Promise<VectorFile> {
  const example = await exampleInput();
  const vectors: Vector[] = [];
  for (const rule of (await readdir(join(libraryFolder, "rules"))).toSorted()) {
    const file = join(libraryFolder, "rules", rule, "vectors.json");
    vectors.push(...((await readJson(file)) as WrittenVector[]).map((one) => vectorOf(one, rule)));
  }
  const own = await readJson(join(folder, "tests/vectors.json")).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  });
  vectors.push(...(own as WrittenVector[]).map((one) => vectorOf(one, one.rule)));
  return { example, vectors };
}

function vectorOf(written: WrittenVector, rule: string | undefined): Vector {
  const { name, entrypoint, set, expected, params } = written;
  const common = {
    name: rule === undefined ? name : `${rule}: ${name}`,
    entrypoint,
    set,
    expected,
    ...(rule === undefined ? {} : { rule }),
  };
  if (params === undefined || rule === undefined) return common;
  const given = Object.entries(written).filter(([key]) => !notOfInstance.has(key));
  const instance = { level: "deny", ...Object.fromEntries(given) };
  const drover = { constraints: { [rule]: { i: instance } }, exemptions: [] };
  // on purpose perhaps malformed: the door is what judges it
  return { ...common, data: { drover } as unknown as PolicyData };
}

/**
 * Asks native OPA and our host; returns the vectors with their answers, and where the two differ, or differ from what
 * the file expects. Fault `policy.no_compiler`.
 */
export async function proveVectors(
  bundle: Pick<PolicyBundle, "wasm" | "data">,
  sources: readonly RegoSource[],
  file: VectorFile,
): Promise<{ readonly file: VectorFile; readonly problems: readonly VectorProblem[] }> {
  const native = await askNative(
    sources,
    file.vectors.map(({ entrypoint, set, data }) => ({
      entrypoint,
      input: edited(file.example, set),
      data: data ?? bundle.data,
    })),
  );
  const vectors = file.vectors.map((vector, index) => ({
    ...vector,
    answer: sorted(native[index]),
  }));
  const proven = { example: file.example, vectors };
  return { file: proven, problems: await checkVectors(bundle, proven) };
}

/** Asks our host alone; every vector must get the answer that it carries. */
export async function checkVectors(
  bundle: Pick<PolicyBundle, "wasm" | "data">,
  file: VectorFile,
): Promise<readonly VectorProblem[]> {
  const sandbox = new Sandbox({ wasm: bundle.wasm, data: bundle.data, entrypoints: [] });
  try {
    const found: VectorProblem[] = [];
    for (const vector of file.vectors) {
      const { name, entrypoint } = vector;
      const input = edited(file.example, vector.set);
      const unfit = inputProblems(entrypoint, input);
      if (unfit.length > 0) {
        found.push({ name, problem: `the input does not fit the contract: ${unfit.join("; ")}` });
        continue;
      }
      const text = JSON.stringify(input);
      const outcome = await sandbox.evaluate(`drover/main/${entrypoint}`, text, vector.data);
      found.push(...problemsOf(vector, outcome).map((problem) => ({ name, problem })));
    }
    return found;
  } finally {
    await sandbox.close();
  }
}

function problemsOf(vector: Vector, outcome: SandboxOutcome): string[] {
  if (outcome.kind !== "results") return [`no answer: ${outcome.problem}`];
  const answer = sorted((outcome.results as { result: unknown }[])[0]?.result);
  if ("answer" in vector && canonicalJson(answer) !== canonicalJson(vector.answer))
    return [`native OPA said ${brief(vector.answer)}, this host says ${brief(answer)}`];
  const shape = outputProblems(answer);
  if (shape.length > 0) return [`the answer breaks the contract: ${shape.join("; ")}`];
  return vector.expected === undefined
    ? []
    : expectationProblems(vector, vector.expected, answer as PolicyOutput);
}

function expectationProblems(
  { rule }: Vector,
  expected: Expected,
  { effect, findings }: PolicyOutput,
): string[] {
  const finding = findings.find((one) => one.rule === rule);
  const pairs: readonly [string, unknown, unknown][] = [
    ["effect", expected.effect, effect],
    ["msg", expected.msg, finding?.msg],
    ["fix", expected.fix, finding?.fix],
    ["code", expected.code, finding?.code],
  ];
  return pairs
    .filter(
      ([, wanted, got]) => wanted !== undefined && canonicalJson(wanted) !== canonicalJson(got),
    )
    .map(([key, wanted, got]) => `${key}: expected ${brief(wanted)}, got ${brief(got)}`);
}

function brief(value: unknown): string {
  const text = canonicalJson(value);
  return text.length > 200 ? `${text.slice(0, 199)}…` : text;
}

/** A copy of the example with the values at these JSON pointers replaced. Throws Error for a pointer into nothing. */
function edited(example: PolicyInput, set: Readonly<Record<string, unknown>>): PolicyInput {
  const copy = structuredClone(example);
  for (const [pointer, value] of Object.entries(set)) {
    const keys = pointer.slice(1).split("/");
    const last = keys.pop() ?? "";
    let place = copy as Record<string, unknown>;
    for (const key of keys) {
      const next = place[key];
      if (typeof next !== "object" || next === null) throw new Error(`${pointer} leads to nothing`);
      place = next as Record<string, unknown>;
    }
    place[last] = structuredClone(value);
  }
  return copy;
}

async function readJson(file: string): Promise<unknown> {
  return JSON.parse(await readFile(file, "utf8"));
}
