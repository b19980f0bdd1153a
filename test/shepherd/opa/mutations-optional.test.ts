/**
 * Mutations of what the vectors leave out: optional fields, exemptions given at run time, constraints that an environment
 * declares. With mutations.test.ts each field that the schema of the input knows is dropped, emptied and retyped.
 */
import { createHash } from "node:crypto";
import { digestOf } from "@drover/shepherd/model/canonical";
import { compileSources } from "@drover/shepherd/opa/compile";
import { loadPolicy } from "@drover/shepherd/opa/engine";
import { Sandbox } from "@drover/shepherd/opa/sandbox";
import { collectSources } from "@drover/shepherd/opa/sources";
import { PolicyInput } from "@drover/shepherd/policy/input";
import type { PolicyOutput } from "@drover/shepherd/policy/output";
import { beforeAll, expect, test } from "@jest/globals";
import { mutationsOf } from "./mutate.ts";
import { operatorFolder, type Vector, vectors } from "./vectors.ts";

const denied = vectors.filter(({ expected }) => expected.effect === "deny");
/** One denial of each rule: the first. */
const oneOfEach = denied.filter(
  (vector, index) => denied.findIndex(({ rule }) => rule === vector.rule) === index,
);

/** One of each kind of question: what excuses and what is declared is the same for all rules. */
const oneOfEachKind = denied.filter(
  (vector, index) =>
    denied.findIndex(({ entrypoint }) => entrypoint === vector.entrypoint) === index,
);

let wasm: Uint8Array<ArrayBuffer>;
beforeAll(async () => {
  const sources = await collectSources({ owner: "test", folder: operatorFolder });
  wasm = await compileSources("test", sources);
}, 60_000);

function fittingExemption({ rule, input }: Vector): PolicyInput["exemptions"][number] {
  return {
    id: "x-1",
    owner: "test",
    rule,
    instance: "i",
    environments: [input.environment.name],
    expires_ms: input.now_ms + 1_000,
    approved_by: "sam",
    ticket: "SEC-1",
  };
}

/** Exemptions that excuse nothing here, each for one reason. */
function exemptionsBeside(vector: Vector): PolicyInput["exemptions"] {
  const fitting = fittingExemption(vector);
  return [
    { ...fitting, expires_ms: vector.input.now_ms },
    { ...fitting, id: "x-2", rule: vector.rule === "freeze" ? "envelope" : "freeze" },
    { ...fitting, id: "x-3", instance: "other" },
    { ...fitting, id: "x-4", environments: ["lab"] },
  ];
}

/** The parts of a denied input that its vector leaves out, filled in so that it stays denied. */
function filled(vector: Vector): PolicyInput {
  const { input } = vector;
  const { machines, links } = input.environment;
  return {
    ...input,
    request: { ...input.request, group: machines[0]?.group ?? "rank" },
    environment: {
      ...input.environment,
      machines: machines.map((machine) => ({
        ...machine,
        cpu_weight: 100,
        proposed: { ...machine.proposed, cpu_weight: 100 },
      })),
      links: links.map((link) => ({ ...link, network: "lan" })),
    },
    sites: input.sites.map((site) => ({
      ...site,
      age_ms: 5,
      hosts: site.hosts.map((host) => ({ ...host, age_ms: 5 })),
    })),
    exemptions: exemptionsBeside(vector),
  };
}

/** What the policy itself says, without a door before it. */
async function withoutDoor(
  vector: Vector,
  work: (effectOf: (input: unknown) => Promise<string>) => Promise<void>,
): Promise<void> {
  const sandbox = new Sandbox({ wasm, data: vector.data, entrypoints: [] });
  try {
    await work(async (input) => {
      const entrypoint = `drover/main/${vector.entrypoint}`;
      const asked = await sandbox.evaluate(entrypoint, JSON.stringify(input));
      const answers =
        asked.kind === "results" ? (asked.results as { result?: PolicyOutput }[]) : [];
      return answers[0]?.result?.effect ?? "deny";
    });
  } finally {
    await sandbox.close();
  }
}

async function laxerOf(
  input: PolicyInput,
  which: RegExp,
  effectOf: (input: unknown) => Promise<string>,
): Promise<{ readonly asked: number; readonly granted: readonly string[] }> {
  const mutations = mutationsOf(input).filter(({ what }) => which.test(what));
  const granted: string[] = [];
  for (const { what, value } of mutations)
    if ((await effectOf(value)) !== "deny") granted.push(what);
  return { asked: mutations.length, granted };
}

const optional = /^\/(request\/group|sites\/.*age_ms|environment\/.*(cpu_weight|network))/;

test.each(oneOfEach)("no mutated optional field turns this into a grant: $name", async (vector) => {
  await withoutDoor(vector, async (effectOf) => {
    expect(await effectOf(filled(vector))).toBe("deny");
    const { asked, granted } = await laxerOf(filled(vector), optional, effectOf);
    expect(asked).toBeGreaterThan(15);
    expect(granted).toEqual([]);
  });
});

test.each(oneOfEachKind)(
  "nor does a mutated exemption given at run time: $name",
  async (vector) => {
    await withoutDoor(vector, async (effectOf) => {
      const excused = { ...filled(vector), exemptions: [fittingExemption(vector)] };
      expect(await effectOf(excused)).toBe("allow");
      const { asked, granted } = await laxerOf(filled(vector), /^\/exemptions/, effectOf);
      expect(asked).toBeGreaterThan(90);
      expect(granted).toEqual([]);
    });
  },
);

const declared: PolicyInput["constraints"] = [
  {
    rule: "lease_length",
    id: "stack:short",
    level: "deny",
    params: { max_ms: 3_600_000, longer: "cut" },
  },
  {
    rule: "growth_factor",
    id: "stack:calm",
    level: "approve",
    params: { max_factor: { vcpus: 9, cpu_percent: 9, memory_mib: 9 } },
  },
];

test.each(oneOfEachKind)(
  "nor does a mutated constraint of the environment's own: $rule",
  async (vector) => {
    const engine = await loadPolicy({
      owner: "test",
      wasm,
      data: vector.data,
      policyDigest: createHash("sha256").update(wasm).digest("hex"),
      dataDigest: digestOf(vector.data),
    });
    const granted: string[] = [];
    const mutations = mutationsOf({ constraints: declared });
    for (const { what, value } of mutations) {
      const input = { ...vector.input, ...(value as object) } as PolicyInput;
      const { effect } = await engine.evaluate(vector.entrypoint, input);
      if (effect !== "deny") granted.push(what);
    }
    await engine.close();
    expect(mutations.length).toBeGreaterThan(30);
    expect(granted).toEqual([]);
  },
);

/** All that the schema names, as pointers with `*` for items. */
function namedBy(schema: Schema, at = ""): string[] {
  const below = Object.entries(schema.properties ?? {}).flatMap(([key, one]) => [
    `${at}/${key}`,
    ...namedBy(one, `${at}/${key}`),
  ]);
  const items = schema.items === undefined ? [] : namedBy(schema.items, `${at}/*`);
  return [...below, ...items, ...(schema.anyOf ?? []).flatMap((one) => namedBy(one, at))];
}
interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
}

function standingIn(value: unknown, at = ""): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const place = Array.isArray(value) ? `${at}/*` : `${at}/${key}`;
    return [place, ...standingIn(item, place)];
  });
}

test("each field that the schema knows stands in a denial that is mutated", () => {
  const inputs = [
    ...denied.map(({ input }) => input),
    ...oneOfEach.map(filled),
    { constraints: declared },
  ];
  const mutated = new Set(inputs.flatMap((input) => standingIn(input)));
  const named = namedBy(PolicyInput as Schema);
  expect(named.length).toBeGreaterThan(150);
  expect(named.filter((field) => !mutated.has(field))).toEqual([]);
});
