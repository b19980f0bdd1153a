import { createHash } from "node:crypto";
import { digestOf } from "@drover/shepherd/model/canonical";
import { compileSources } from "@drover/shepherd/opa/compile";
import { dataProblems, instanceProblems } from "@drover/shepherd/opa/door";
import { loadPolicy } from "@drover/shepherd/opa/engine";
import { Sandbox } from "@drover/shepherd/opa/sandbox";
import { collectSources, type RegoSource } from "@drover/shepherd/opa/sources";
import type { PolicyData } from "@drover/shepherd/policy/data";
import { PolicyInput } from "@drover/shepherd/policy/input";
import type { PolicyOutput, PolicySelf } from "@drover/shepherd/policy/output";
import { beforeAll, expect, test } from "@jest/globals";
import { Compile } from "typebox/compile";
import { mutationsOf } from "./mutate.ts";
import { askNative, type NativeQuestion } from "./native.ts";
import { operatorFolder, vectors } from "./vectors.ts";

/**
 * Fewer or other facts must never turn a denial into a grant. Each field of each denied vector is dropped, emptied and
 * given another type, once.
 */
const door = Compile(PolicyInput);
const denied = vectors.filter(({ expected }) => expected.effect !== "allow");

let sources: readonly RegoSource[];
let wasm: Uint8Array<ArrayBuffer>;

beforeAll(async () => {
  sources = await collectSources({ owner: "test", folder: operatorFolder });
  wasm = await compileSources("test", sources);
}, 60_000);

/** Rules that say no to nothing: what they demand or forbid with a yes must not be lost either, see below. */
const demanding = vectors.filter(
  ({ expected }) => (expected.obligations ?? []).length > 0 || forbiddenBy(expected).length > 0,
);

function forbiddenBy({ limits = {} }: { readonly limits?: object }): readonly string[] {
  return (limits as { readonly forbid_rungs?: readonly string[] }).forbid_rungs ?? [];
}

test("there are denials or demands to mutate, of every rule", () => {
  const mutated = [...denied, ...demanding].map(({ rule }) => rule);
  expect(new Set(mutated)).toEqual(new Set(vectors.map(({ rule }) => rule)));
});

/** Denied became granted, or at least approvable. */
function isLaxer(effect: string | undefined, vector: (typeof denied)[number]): boolean {
  return effect === "allow" || (effect === "approve" && vector.expected.effect === "deny");
}

test.each(denied)(
  "no mutated input turns this into a grant: $name",
  async (vector) => {
    const engine = await loadPolicy({
      owner: "test",
      wasm,
      data: vector.data,
      policyDigest: createHash("sha256").update(wasm).digest("hex"),
      dataDigest: digestOf(vector.data),
    });
    const mutations = mutationsOf(vector.input);
    // what the door refuses is denied without asking (engine.test.ts); only its list of reasons is slow
    const fitting = mutations.filter(({ value }) => door.Check(value));
    const granted: string[] = [];
    for (const { what, value } of fitting) {
      const { effect } = await engine.evaluate(vector.entrypoint, value as PolicyInput);
      if (isLaxer(effect, vector)) granted.push(what);
    }
    await engine.close();
    expect(mutations.length).toBeGreaterThan(300);
    expect(fitting.length).toBeGreaterThan(5);
    expect(granted).toEqual([]);
  },
  60_000,
);

test.each(demanding)(
  "no mutated input gets the yes without what it brings: $name",
  async (vector) => {
    const engine = await loadPolicy({
      owner: "test",
      wasm,
      data: vector.data,
      policyDigest: createHash("sha256").update(wasm).digest("hex"),
      dataDigest: digestOf(vector.data),
    });
    const demanded = vector.expected.obligations?.length ?? 0;
    const forbidden = forbiddenBy(vector.expected);
    const fitting = mutationsOf(vector.input).filter(({ value }) => door.Check(value));
    const lost: string[] = [];
    for (const { what, value } of fitting) {
      const answer = await engine.evaluate(vector.entrypoint, value as PolicyInput);
      const keeps =
        answer.obligations.length >= demanded &&
        forbidden.every((rung) => answer.limits.forbidRungs?.includes(rung));
      if (answer.effect !== "deny" && !keeps) lost.push(what);
    }
    await engine.close();
    expect(fitting.length).toBeGreaterThan(5);
    expect(lost).toEqual([]);
  },
  60_000,
);

/** One denial of each rule: the first. */
const oneOfEach = denied.filter(
  (vector, index) => denied.findIndex(({ rule }) => rule === vector.rule) === index,
);

test("native OPA grants none of one denial of each rule either", async () => {
  const questions = oneOfEach.flatMap((vector) =>
    mutationsOf(vector.input)
      .filter(({ value }) => door.Check(value))
      .map(({ what, value }) => ({
        what: `${vector.name}: ${what}`,
        vector,
        entrypoint: vector.entrypoint,
        input: value,
        data: vector.data.drover,
      })),
  );
  const answers = (await askNative(sources, questions)) as readonly (PolicyOutput | undefined)[];
  const granted = questions.filter(({ vector }, index) => isLaxer(answers[index]?.effect, vector));
  expect(questions.length).toBeGreaterThan(300);
  expect(granted.map(({ what }) => what)).toEqual([]);
}, 120_000);

test.each(oneOfEach)(
  "nor does the policy itself, were there no door before it: $rule",
  async (vector) => {
    const sandbox = new Sandbox({ wasm, data: vector.data, entrypoints: [] });
    const granted: string[] = [];
    for (const { what, value } of mutationsOf(vector.input)) {
      const outcome = await sandbox.evaluate(
        `drover/main/${vector.entrypoint}`,
        JSON.stringify(value),
      );
      const answer =
        outcome.kind === "results"
          ? (outcome.results as { result: PolicyOutput }[])[0]?.result
          : undefined;
      if (isLaxer(answer?.effect, vector)) granted.push(what);
    }
    await sandbox.close();
    expect(granted).toEqual([]);
  },
  60_000,
);

/** Policy edits that a form cannot tell from the owner's wish. */
const ownersWish: ReadonlySet<string> = new Set([
  // a cause without a budget is not held back
  "disruption_budget /params/causes/0 dropped",
  "disruption_budget /params/causes/1 dropped",
  // a freeze without windows is what most have; the holds still count
  "freeze /params/windows = []",
  "freeze /params/windows/0 dropped",
  // without a site the instance judges all of them, the known ones
  "host_headroom /params/site dropped",
]);

test("no mutated instance turns a denial into a grant", async () => {
  const sandbox = new Sandbox({ wasm, data: {}, entrypoints: ["drover/main/self"] });
  const opened = await sandbox.open();
  await sandbox.close();
  const self =
    opened.kind === "results" ? (opened.results as { result: PolicySelf }[])[0]?.result : undefined;
  if (self === undefined) throw new Error("no self");
  const questions: (NativeQuestion & { readonly what: string; readonly rule: string })[] = [];
  let refused = 0;
  for (const vector of denied)
    for (const { what, value } of mutationsOf(vector.data.drover.constraints[vector.rule]?.["i"])) {
      const data = {
        drover: { constraints: { [vector.rule]: { i: value } }, exemptions: [] },
      } as unknown as PolicyData;
      if (dataProblems(data).length > 0 || instanceProblems(data, self).length > 0) refused += 1;
      else
        questions.push({
          what,
          rule: vector.rule,
          entrypoint: vector.entrypoint,
          input: vector.input,
          data: data.drover,
        });
    }
  const answers = (await askNative(sources, questions)) as readonly (PolicyOutput | undefined)[];
  const granted = questions
    .filter((_, index) => answers[index]?.effect === "allow")
    .map(({ rule, what }) => `${rule} ${what}`)
    .filter((edit) => !ownersWish.has(edit));
  expect(refused).toBeGreaterThan(100);
  expect(granted).toEqual([]);
}, 60_000);

/** Beside the denying instance: exemptions that do not excuse it, and overrides that keep it as strict. */
function hardened(vector: (typeof denied)[number]): PolicyData["drover"] {
  const { drover } = vector.data;
  const { environment, now_ms, point } = vector.input;
  const exemption = {
    id: "x-1",
    rule: vector.rule,
    instance: "i",
    environments: [environment.name],
    expires_ms: now_ms + 1000,
    approved_by: "sam",
    ticket: "SEC-1",
  };
  const { level, ...instance } = need(drover.constraints[vector.rule]?.["i"]);
  return {
    constraints: {
      [vector.rule]: {
        i: {
          ...instance,
          level,
          levels: {
            points: { [point]: level, [point === "audit" ? "plan" : "audit"]: "off" },
            environments: { [environment.name]: level, lab: "off" },
          },
        },
      },
    },
    exemptions: [
      { ...exemption, expires_ms: now_ms },
      { ...exemption, id: "x-2", rule: vector.rule === "freeze" ? "envelope" : "freeze" },
      { ...exemption, id: "x-3", instance: "other" },
      { ...exemption, id: "x-4", environments: ["lab"] },
    ],
  };
}

test("no mutated exemption or level turns a denial into a grant, with or without the door", async () => {
  // What excuses and overrides is the same for all rules: one denial of each kind of question will do.
  const kindOf = ({ entrypoint, expected }: (typeof denied)[number]) =>
    `${entrypoint} ${expected.effect}`;
  const oneOfEachKind = denied.filter(
    (vector, index) => denied.findIndex((other) => kindOf(other) === kindOf(vector)) === index,
  );
  const questions = oneOfEachKind.flatMap((vector) => {
    const drover = hardened(vector);
    const instance = need(drover.constraints[vector.rule]?.["i"]);
    const mutated = [
      { what: "as written", value: drover },
      ...mutationsOf(drover.exemptions, "/exemptions").map(({ what, value }) => ({
        what,
        value: { ...drover, exemptions: value },
      })),
      ...mutationsOf(instance.levels, "/levels").map(({ what, value }) => ({
        what,
        value: {
          ...drover,
          constraints: { [vector.rule]: { i: { ...instance, levels: value } } },
        },
      })),
    ];
    return mutated.map(({ what, value }) => ({
      what: `${vector.rule} ${what}`,
      vector,
      entrypoint: vector.entrypoint,
      input: vector.input,
      data: value,
    }));
  });
  const refused = questions.filter(({ data }) => dataProblems({ drover: data }).length > 0);
  const answers = (await askNative(
    sources,
    questions.map(({ data, ...question }) => ({ ...question, data: data as PolicyData["drover"] })),
  )) as readonly (PolicyOutput | undefined)[];
  const granted = questions.filter(({ vector }, index) => isLaxer(answers[index]?.effect, vector));
  expect(oneOfEachKind.length).toBeGreaterThan(3);
  expect(questions.length).toBeGreaterThan(300);
  expect(refused.length).toBeGreaterThan(150);
  expect(granted.map(({ what }) => what)).toEqual([]);
}, 120_000);

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("it is not there");
  return value;
}
