/** What an environment declares for itself is checked against its owner's rules, only ever tightens, and is its owner's to see. */
import { join } from "node:path";
import { type LoadedPolicy, openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import {
  constraintProblems,
  declaredName,
  instanceOf,
  isDeclarable,
  withConstraints,
} from "@drover/shepherd/policy/constraints";
import type { PolicyData } from "@drover/shepherd/policy/data";
import type { PolicyConstraint, PolicyInput } from "@drover/shepherd/policy/input";
import { inputFor } from "@drover/shepherd/policy/visible";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { exampleInput, vectors } from "../opa/vectors.ts";

let engine: LoadedPolicy;
beforeAll(async () => {
  engine = await openPolicy({ owner: "owner:alice", folder: join(libraryFolder, "data/owner") });
}, 120_000);
afterAll(() => engine?.close());

const strictness = ["allow", "approve", "deny"];
const declaring = (...constraints: readonly PolicyConstraint[]): PolicyInput => ({
  ...exampleInput,
  constraints: [...constraints],
});

test("a colon in its name keeps a declared instance from standing in for one of a bundle", () => {
  expect(instanceOf("calm")).toBe("stack:calm");
  expect(declaredName("stack:calm")).toBe("calm");
  expect(declaredName("fourfold-an-hour")).toBeUndefined();
  const own = { level: "deny" as const, params: { max_downtime_ms: 10 } };
  const data: PolicyData = {
    drover: { constraints: { max_downtime: { "stack:calm": own } }, exemptions: [] },
  };
  const laxer = { rule: "max_downtime", id: "stack:calm", level: "warn" as const, params: {} };
  expect(withConstraints(data, [laxer]).drover.constraints).toEqual(data.drover.constraints);
});

test.each([
  ["nothing", { rule: "growth_factor", level: "deny", params: good() }, []],
  ["parts that are not known yet", { rule: "growth_factor" }, []],
  [
    "a rule that there is not",
    { rule: "growth" },
    [
      {
        attribute: "rule",
        problem: expect.stringMatching(/^there is no rule growth; there are .*growth_factor/),
      },
    ],
  ],
  [
    "a rule that judges by others' numbers",
    { rule: "host_headroom" },
    [{ attribute: "rule", problem: expect.stringContaining("judges by numbers of others") }],
  ],
  [
    "a level below what the rule is meant for",
    { rule: "growth_factor", level: "warn" },
    [{ attribute: "level", problem: expect.stringContaining("warn is laxer than the deny") }],
  ],
  [
    "parameters that the rule does not take",
    { rule: "growth_factor", params: { max_factor: { ...good().max_factor, vcpus: "two" } } },
    [{ attribute: "params", problem: expect.stringContaining("max_factor.vcpus") }],
  ],
] as const)("a check finds %s", (_, asked, problems) => {
  expect(constraintProblems(engine.self, asked)).toEqual(problems);
});

function good() {
  return { max_factor: { vcpus: 2, cpu_percent: 2, memory_mib: 2 } };
}

test("a declared instance is judged like one of the bundle, under its own name, and for that question only", async () => {
  const vector = vectors.find(
    ({ rule, expected }) => rule === "growth_factor" && expected.effect === "deny",
  );
  if (vector === undefined) throw new Error("growth_factor has no vector that denies");
  const { input, data } = vector;
  const [instance] = Object.values(data.drover.constraints["growth_factor"] ?? {});
  const params = instance?.params ?? {};
  const calm = { rule: "growth_factor", id: "stack:calm", level: "deny" as const, params };
  const before = await engine.evaluate("decision", input);
  const with_ = await engine.evaluate("decision", { ...input, constraints: [calm] });
  const after = await engine.evaluate("decision", input);
  expect(before.effect).toBe("allow");
  expect(with_.effect).toBe("deny");
  expect(with_.findings.filter(({ ok }) => !ok)).toMatchObject([
    { rule: "growth_factor", id: "stack:calm", level: "deny", code: "policy.denied" },
  ]);
  expect(after.findings).toEqual(before.findings);
});

test("parameters that a newer rule does not understand deny, and say so", async () => {
  const unfit = { rule: "growth_factor", id: "stack:old", level: "deny" as const, params: {} };
  const gone = { rule: "of_last_year", id: "stack:gone", level: "deny" as const, params: {} };
  for (const constraint of [unfit, gone]) {
    const { effect, findings } = await engine.evaluate("decision", declaring(constraint));
    expect(effect).toBe("deny");
    expect(findings.find(({ id }) => id === constraint.id)?.code).toBe("policy.indeterminate");
  }
});

test("whatever is declared, the answer is never laxer than without", async () => {
  const without = await engine.evaluate("decision", exampleInput);
  const rules = Object.entries(engine.self.rules).filter(([, about]) => isDeclarable(about));
  expect(rules.length).toBeGreaterThan(15);
  for (const [rule, { custom }] of rules) {
    const { params = {} } = (custom.example ?? {}) as { params?: Record<string, unknown> };
    for (const level of ["audit", "warn", "approve", "deny"] as const) {
      const answer = await engine.evaluate(
        "decision",
        declaring({ rule, id: "stack:x", level, params }),
      );
      expect(strictness.indexOf(answer.effect)).toBeGreaterThanOrEqual(
        strictness.indexOf(without.effect),
      );
      const kept = answer.findings.filter(({ id }) => id !== "stack:x");
      expect(kept).toEqual(without.findings);
    }
  }
});

test("only the policy of the environment's owner is asked with them", () => {
  const input = declaring({ rule: "freeze", id: "stack:x", level: "deny", params: {} });
  const { owner } = input.environment;
  expect(inputFor(`owner:${owner}`, input).constraints).toHaveLength(1);
  for (const other of ["operator", "site:north", "owner:somebody"])
    expect(inputFor(other, input).constraints).toBeUndefined();
});
