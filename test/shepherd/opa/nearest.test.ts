import { inputProblems } from "@drover/shepherd/opa/door";
import { collectSources, type RegoSource } from "@drover/shepherd/opa/sources";
import type { PolicyOutput } from "@drover/shepherd/policy/output";
import { beforeAll, expect, test } from "@jest/globals";
import { aboutOf, rules } from "../../tools/rule-docs.ts";
import { type Fix, withFix } from "./apply-fix.ts";
import { askNative } from "./native.ts";
import { operatorFolder, type Vector, vectors } from "./vectors.ts";

/**
 * The nearest allowed value of every denial, asked for: it passes. Or the rule says in its METADATA why it has none.
 * Native OPA answers; that this host says the same of each vector is another test's.
 */
interface Denial extends Vector {
  readonly fix: Fix | undefined;
}

let sources: readonly RegoSource[];
let denials: readonly Denial[];

beforeAll(async () => {
  sources = await collectSources({ owner: "test", folder: operatorFolder });
  const refused = vectors.filter(({ expected }) => expected.effect !== "allow");
  const answers = await ask(refused);
  denials = refused.flatMap((vector, index) => {
    const finding = answers[index]?.findings.find(({ rule }) => rule === vector.rule);
    return finding?.code === "policy.denied" ? [{ ...vector, fix: finding.fix }] : [];
  });
}, 60_000);

async function ask(asked: readonly Vector[]): Promise<readonly (PolicyOutput | undefined)[]> {
  const questions = asked.map(({ entrypoint, input, data }) => ({
    entrypoint,
    input,
    data: data.drover,
  }));
  return (await askNative(sources, questions)) as readonly (PolicyOutput | undefined)[];
}

test("what a denial calls the nearest allowed is allowed", async () => {
  const mended = denials.flatMap((denial) =>
    hasFix(denial.fix) ? [{ ...denial, input: withFix(denial.input, denial.fix) }] : [],
  );
  const answers = await ask(mended);
  const refused = mended.flatMap(({ name, fix }, index) => {
    const answer = answers[index];
    return answer?.effect === "allow"
      ? []
      : [`${name}: ${JSON.stringify(fix)}: ${answer?.findings[0]?.msg}`];
  });
  expect(refused).toEqual([]);
  expect(mended.flatMap(({ entrypoint, input }) => inputProblems(entrypoint, input))).toEqual([]);
  expect(mended.length).toBeGreaterThan(50);
});

test("one step beyond it is not", async () => {
  const beyond = denials.flatMap((denial) =>
    Object.entries(denial.fix ?? {}).flatMap(([key, value]) =>
      typeof value === "number"
        ? [
            {
              ...denial,
              input: withFix(denial.input, { ...denial.fix, [key]: value + step(denial, key) }),
            },
          ]
        : [],
    ),
  );
  const answers = await ask(beyond);
  const granted = beyond.filter((_, index) => answers[index]?.effect === "allow");
  expect(granted.map(({ name }) => name)).toEqual([]);
  expect(beyond.length).toBeGreaterThan(40);
});

/** Towards what was asked for: a shorter wait, a longer lease, more of what is to grow, less of what is to shrink. */
function step({ input }: Denial, key: string): number {
  if (key === "retry_after_ms") return -1;
  const steps = input.environment.machines.map((machine) => {
    const now: Readonly<Record<string, unknown>> = { ...machine };
    const asked: Readonly<Record<string, unknown>> = { ...machine.proposed };
    return Math.sign(Number(asked[key]) - Number(now[key]));
  });
  return steps.includes(-1) && !steps.includes(1) ? -1 : 1;
}

test("a rule that has no nearest value for a denial says why, and no other does", () => {
  const without = new Set(denials.flatMap(({ rule, fix }) => (hasFix(fix) ? [] : [rule])));
  const excused = rules.filter((rule) => (aboutOf(rule).custom.no_fix ?? "") !== "");
  expect(excused).toEqual([...without].toSorted());
});

function hasFix(fix: Fix | undefined): fix is Fix {
  return fix !== undefined && Object.keys(fix).length > 0;
}
