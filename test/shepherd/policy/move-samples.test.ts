import type { StepRecord } from "@drover/shepherd/model/plan";
import { tookOf } from "@drover/shepherd/policy/move-samples";
import { expect, test } from "@jest/globals";

function step(name: string, tookMs: number, outcome: object = {}): StepRecord {
  return {
    operationId: "op",
    n: 0,
    name: `rank-0: ${name}`,
    state: "done",
    outcome,
    startedAtMs: 1_000,
    endedAtMs: 1_000 + tookMs,
  };
}
const steps = [
  step("image on south-1", 9_000, { bytes: 50 }),
  step("disk on south-1", 500, { bytes: 7 }),
  step("copy and switch to south-1", 4_000, { bytes: 100, downtimeMs: 60 }),
  step("leave north-1", 200),
];

test("a sample is what the machine's own steps took, but for its image, which is placed once", () => {
  expect(tookOf(steps)).toEqual({ bytes: 107, durationMs: 4_700, downtimeMs: 60 });
});

test("copies that shared the line count as if each had had it alone", () => {
  expect(tookOf(steps, { besides: 2 })?.durationMs).toBe(2_700);
});

test("what did not switch is no sample", () => {
  expect(tookOf(steps.slice(0, 2))).toBeUndefined();
});
