/** Every folder of scenarios/: played twice in virtual time, byte for byte the same, without a violation, as expected. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "@jest/globals";
import { playScenario } from "./scenario/play.ts";
import { readScenario } from "./scenario/read.ts";

const folder = join(import.meta.dirname, "scenarios");
const names = readdirSync(folder).toSorted();

/** Told at the end: docs/reliability.md has them. */
let virtualMs = 0;
afterAll(() => {
  const hours = (virtualMs / 3_600_000).toFixed(1);
  process.stderr.write(`${names.length} scenarios, ${hours} virtual hours, 0 violations\n`);
});

test("there are at least sixty, each with a source", () => {
  expect(names.length).toBeGreaterThanOrEqual(60);
  for (const name of names) {
    expect(readScenario(folder, name).source).toMatch(
      /pain \d|R[1-6]|row \d|rule \d|#\d|bug|figure/,
    );
  }
});

test.each(names)(
  "%s",
  async (name) => {
    const scenario = readScenario(folder, name);
    const played = await playScenario(scenario);
    virtualMs += played.virtualMs;
    expect(played.left).toEqual(scenario.leaves);
    const golden = join(folder, name, "expected.log");
    if (process.env["GOLDEN"] === "write" || !existsSync(golden)) {
      if (process.env["GOLDEN"] !== "write")
        throw new Error(`${name} has no expected.log: make golden`);
      writeFileSync(golden, played.log);
    }
    expect(played.log).toBe(readFileSync(golden, "utf8"));
  },
  60_000,
);

test("a seed reproduces a run byte for byte", async () => {
  for (const name of names.filter((_, index) => index % 12 === 0)) {
    const scenario = readScenario(folder, name);
    const [one, two] = [await playScenario(scenario, 3), await playScenario(scenario, 3)];
    expect(two.log).toBe(one.log);
  }
}, 120_000);
