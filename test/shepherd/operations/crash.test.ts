import { afterAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { measure, scenarios, withCrashes } from "./hostile.ts";

/** Told at the end: docs/reliability.md has them. */
let allDeaths = 0;
afterAll(() => {
  process.stderr.write(`${allDeaths} deaths of the shepherd after a write, 0 violations\n`);
});

test.each(scenarios)(
  "$name: the shepherd may die after any write",
  async (scenario) => {
    const { writes } = await measure(scenario);
    let deaths = 0;
    for (let afterWrites = 1; afterWrites <= writes; afterWrites += 1) {
      try {
        const { operation, died } = await withCrashes(scenario, [afterWrites]);
        deaths += died;
        allDeaths += died;
        expect(operation.state).toBe("succeeded");
        // Past the end: every write was covered.
        if (died === 0) break;
      } catch (error) {
        throw new Error(`${scenario.name}: death after write ${afterWrites}`, { cause: error });
      }
    }
    expect(deaths).toBeGreaterThan(4);
  },
  120_000,
);

test.each(scenarios)(
  "$name: it may die again and again, in recovery too",
  async (scenario) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 25 }), { minLength: 2, maxLength: 6 }),
        async (deaths) => {
          const { operation, died } = await withCrashes(scenario, deaths);
          allDeaths += died;
          expect(operation.state).toBe("succeeded");
        },
      ),
      { numRuns: 12, seed: 7 },
    );
  },
  120_000,
);
