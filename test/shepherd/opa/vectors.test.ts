import { createHash } from "node:crypto";
import { digestOf } from "@drover/shepherd/model/canonical";
import type { PolicyBundle } from "@drover/shepherd/opa/bundle";
import { compileSources } from "@drover/shepherd/opa/compile";
import { inputProblems } from "@drover/shepherd/opa/door";
import { loadPolicy } from "@drover/shepherd/opa/engine";
import { Sandbox } from "@drover/shepherd/opa/sandbox";
import { sorted } from "@drover/shepherd/opa/sorted";
import { collectSources } from "@drover/shepherd/opa/sources";
import type { PolicyOutput } from "@drover/shepherd/policy/output";
import { beforeAll, expect, test } from "@jest/globals";
import { askNative } from "./native.ts";
import { operatorFolder, type Vector, vectors } from "./vectors.ts";

let wasm: Uint8Array<ArrayBuffer>;
let native: readonly unknown[];

beforeAll(async () => {
  const sources = await collectSources({ owner: "test", folder: operatorFolder });
  wasm = await compileSources("test", sources);
  native = await askNative(
    sources,
    vectors.map(({ entrypoint, input, data }) => ({ entrypoint, input, data: data.drover })),
  );
}, 60_000);

function bundleOf(vector: Vector): PolicyBundle {
  return {
    owner: "test",
    wasm,
    data: vector.data,
    policyDigest: createHash("sha256").update(wasm).digest("hex"),
    dataDigest: digestOf(vector.data),
  };
}

test("every vector passes the door", () => {
  expect(
    vectors.flatMap(({ name, entrypoint, input }) =>
      inputProblems(entrypoint, input).map((problem) => `${name}: ${problem}`),
    ),
  ).toEqual([]);
});

test.each(vectors.map((vector, index) => ({ ...vector, index })))("$name", async (vector) => {
  const engine = await loadPolicy(bundleOf(vector));
  try {
    const answer = await engine.evaluate(vector.entrypoint, vector.input);
    const finding = answer.findings.find(({ rule }) => rule === vector.rule);
    const { effect, msg, fix, code, limits } = vector.expected;
    expect({
      effect: answer.effect,
      msg: msg && finding?.msg,
      fix: fix && finding?.fix,
      code: code && finding?.code,
      limits: limits && answer.limits,
    }).toEqual({ effect, msg, fix, code, limits });
  } finally {
    await engine.close();
  }
});

test("native OPA and our WASM host give the same answer to every vector", async () => {
  const differences: unknown[] = [];
  for (const [index, vector] of vectors.entries()) {
    const sandbox = new Sandbox({ wasm, data: vector.data, entrypoints: ["decision"] });
    const outcome = await sandbox.evaluate(vector.entrypoint, JSON.stringify(vector.input));
    await sandbox.close();
    const ours =
      outcome.kind === "results"
        ? (outcome.results as { result: PolicyOutput }[])[0]?.result
        : outcome;
    if (digestOf(sorted(ours)) !== digestOf(sorted(native[index])))
      differences.push({ vector: vector.name, ours, native: native[index] });
  }
  expect(differences).toEqual([]);
}, 60_000);
