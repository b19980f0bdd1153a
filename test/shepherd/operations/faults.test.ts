import { afterAll, expect, test } from "@jest/globals";
import { measure, scenarios, withFault } from "./hostile.ts";

/** Told at the end: docs/reliability.md has them. */
let pairs = 0;
afterAll(() => {
  process.stderr.write(`${pairs} pairs of a call and a fault, 0 violations\n`);
});

const effects = ["fail", "fail_after", "hang", "hang_after", "twice", "late"] as const;

test.each(scenarios.flatMap((scenario) => effects.map((effect) => ({ scenario, effect }))))(
  "$scenario.name: $effect, at any one call",
  async ({ scenario, effect }) => {
    const { calls } = await measure(scenario);
    expect(calls).toBeGreaterThan(3);
    const ends = new Map<string, number>();
    for (let nth = 1; nth <= calls; nth += 1) {
      try {
        const { state } = await withFault(scenario, { nth, effect });
        pairs += 1;
        ends.set(state, (ends.get(state) ?? 0) + 1);
      } catch (error) {
        throw new Error(`${scenario.name}: call ${nth} of ${calls} ${effect}`, { cause: error });
      }
    }
    expect([...ends.values()].reduce((sum, count) => sum + count, 0)).toBe(calls);
  },
  120_000,
);
