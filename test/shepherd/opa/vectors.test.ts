import { compileSources } from "@drover/shepherd/opa/compile";
import { inputProblems, outputProblems } from "@drover/shepherd/opa/door";
import { Sandbox } from "@drover/shepherd/opa/sandbox";
import { sorted } from "@drover/shepherd/opa/sorted";
import { collectSources } from "@drover/shepherd/opa/sources";
import type { PolicyOutput } from "@drover/shepherd/policy/output";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { askNative } from "./native.ts";
import { operatorFolder, vectors } from "./vectors.ts";

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

/** A worker for each data; vectors of one rule mostly have the same, and come one after the other. */
let running: { readonly data: string; readonly sandbox: Sandbox } | undefined;

async function sandboxFor(data: object): Promise<Sandbox> {
  const key = JSON.stringify(data);
  if (running?.data !== key) {
    await running?.sandbox.close();
    const sandbox = new Sandbox({ wasm, data, entrypoints: ["drover/main/decision"] });
    running = { data: key, sandbox };
  }
  return running.sandbox;
}

afterAll(() => running?.sandbox.close());

test("every vector passes the door", () => {
  expect(
    vectors.flatMap(({ name, entrypoint, input }) =>
      inputProblems(entrypoint, input).map((problem) => `${name}: ${problem}`),
    ),
  ).toEqual([]);
});

test.each(vectors.map((vector, index) => ({ ...vector, index })))(
  "as expected, and as native OPA says: $name",
  async (vector) => {
    const sandbox = await sandboxFor(vector.data);
    const outcome = await sandbox.evaluate(
      `drover/main/${vector.entrypoint}`,
      JSON.stringify(vector.input),
    );
    const answer =
      outcome.kind === "results"
        ? (outcome.results as { result: PolicyOutput }[])[0]?.result
        : undefined;
    expect(outputProblems(answer)).toEqual([]);
    const finding = answer?.findings.find(({ rule }) => rule === vector.rule);
    const { effect, msg, fix, code, path, limits, obligations } = vector.expected;
    expect({
      effect: answer?.effect,
      msg: msg && finding?.msg,
      fix: fix && finding?.fix,
      code: code && finding?.code,
      path: path && finding?.path,
      limits: limits && sorted(answer?.limits),
      obligations:
        obligations && sorted(answer?.obligations.map(({ id, params }) => ({ id, params }))),
    }).toEqual({ effect, msg, fix, code, path, limits, obligations });
    // Who is told no is told where: what `drover what-if --set` takes.
    if (finding?.ok === false && finding.code === "policy.denied") {
      expect(leadsSomewhere(vector.input, finding.path)).toBe(true);
    }
    expect(sorted(answer)).toEqual(sorted(native[vector.index]));
  },
);

/** True for a JSON pointer (RFC 6901) to something, or to an optional field that is not set. */
function leadsSomewhere(value: unknown, pointer: string | undefined): boolean {
  if (pointer?.startsWith("/") !== true) return false;
  const keys = pointer
    .slice(1)
    .split("/")
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop() ?? "";
  const place = keys.reduce<unknown>((at, key) => fieldsOf(at)?.[key], value);
  return fieldsOf(place)?.[last] !== undefined || unset.has(pointer);
}

const unset: ReadonlySet<string> = new Set(["/request/lease_ms"]);

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}
