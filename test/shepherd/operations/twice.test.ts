/** Every step is met half done by the next shepherd: done a second time, and undone a second time. */
import { afterAll, expect, test } from "@jest/globals";
import { measure, scenarios, withLostWrite } from "./hostile.ts";

/** Told at the end: docs/reliability.md has them. */
let lost = 0;
afterAll(() => {
  process.stderr.write(`${lost} steps and undos met half done, 0 violations\n`);
});

test.each(scenarios)(
  "$name: each step may be done twice",
  async (scenario) => {
    const { writes } = await measure(scenario);
    let deaths = 0;
    for (let losesWrite = 1; losesWrite <= writes; losesWrite += 1) {
      try {
        const { operation, died } = await withLostWrite(scenario, losesWrite);
        expect(operation.state).toBe("succeeded");
        if (!died) break;
        deaths += 1;
        lost += 1;
      } catch (error) {
        throw new Error(`${scenario.name}: write ${losesWrite} was lost`, { cause: error });
      }
    }
    expect(deaths).toBeGreaterThan(4);
  },
  120_000,
);

test.each(scenarios.filter(({ kind }) => kind !== "destroy"))(
  "$name: each undo may be done twice",
  async (scenario) => {
    const { calls, writes } = await measure(scenario);
    // Broken near the end, so that there is much to take back; every other write is lost: half of them only mark.
    for (const nth of [calls - 1]) {
      for (let losesWrite = 2; losesWrite <= writes; losesWrite += 2) {
        try {
          const { died } = await withLostWrite(scenario, losesWrite, { nth, effect: "fail" });
          if (!died) break;
          lost += 1;
        } catch (error) {
          throw new Error(`${scenario.name}: call ${nth} failed, write ${losesWrite} was lost`, {
            cause: error,
          });
        }
      }
    }
  },
  120_000,
);
