import {
  type Climb,
  createLadder,
  defaultRungs,
  type LadderOptions,
  type Rung,
} from "@drover/shepherd/operations/ladder";
import { expect, test } from "@jest/globals";

const mib = 2 ** 20;

/** A copy whose rounds take five seconds each and leave what the list says; what is climbed in each round. */
function climbs(
  leftMib: readonly number[],
  options: Partial<LadderOptions> = {},
): readonly (Rung | undefined)[] {
  const ladder = createLadder({
    allowed: defaultRungs,
    startedAtMs: 0,
    budgetMs: 10 * 60_000,
    ...options,
  });
  return leftMib.map((left, index) => {
    const round = { atMs: (index + 1) * 5_000, iteration: index + 1, remainingBytes: left * mib };
    return ladder.observe(round)?.rung;
  });
}
const stuck = Array.from({ length: 20 }, () => 100);
const all: readonly Rung[] = ["downtime", "bandwidth", "throttle", "post_copy", "abort"];

test("a copy that gets further each round is left alone", () => {
  expect(climbs([100, 80, 64, 50, 40, 32, 25, 20]).filter(Boolean)).toEqual([]);
});

test("a copy that stands still climbs one rung after the other, in order, and is then given up", () => {
  expect(climbs(stuck, { allowed: all, bandwidthMbps: 100 }).filter(Boolean)).toEqual([
    "downtime",
    "bandwidth",
    "throttle",
    "post_copy",
  ]);
  expect(climbs(stuck).filter(Boolean)).toEqual(["downtime", "throttle", "abort"]);
});

test("what policy forbids is not climbed; nothing allowed at all waits for whoever cancels", () => {
  expect(climbs(stuck, { allowed: ["throttle", "abort"] }).filter(Boolean)).toEqual([
    "throttle",
    "abort",
  ]);
  expect(climbs(stuck, { allowed: [] }).filter(Boolean)).toEqual([]);
});

test("a copy that has the whole line already is not promised more of it", () => {
  expect(climbs(stuck, { allowed: all }).filter(Boolean)).not.toContain("bandwidth");
  expect(
    climbs(stuck, { allowed: all, bandwidthMbps: 200, maxMbps: 200 }).filter(Boolean),
  ).not.toContain("bandwidth");
});

test("rounds that come and go are no progress; a rung that helps is given time", () => {
  // Back and forth around the same: KubeVirt's old timer took each dip for progress.
  expect(climbs([100, 99, 101, 98, 102, 99, 100, 98]).filter(Boolean)).toContain("downtime");
  const helped = climbs([100, 100, 100, 100, 60, 40, 20, 10]);
  expect(helped.filter(Boolean)).toEqual(["downtime"]);
});

test("rounds of milliseconds do not race up the ladder", () => {
  const ladder = createLadder({ allowed: defaultRungs, startedAtMs: 0, budgetMs: 60_000 });
  const early: (Climb | undefined)[] = [];
  for (let iteration = 1; iteration <= 200; iteration += 1) {
    early.push(ladder.observe({ atMs: iteration * 40, iteration, remainingBytes: 8 * mib }));
  }
  expect(early.filter(Boolean)).toEqual([]);
});

test("the budget ends it, with the numbers that say why", () => {
  const ladder = createLadder({ allowed: defaultRungs, startedAtMs: 0, budgetMs: 20_000 });
  const round = {
    iteration: 1,
    remainingBytes: 100 * mib,
    bytesPerS: 20 * mib,
    dirtyBytesPerS: 90 * mib,
  };
  expect(ladder.observe({ ...round, atMs: 19_000 })).toBeUndefined();
  expect(ladder.observe({ ...round, atMs: 21_000 })).toEqual({
    rung: "abort",
    why: "it has not ended within 20000 ms",
  });
  expect(ladder.observe({ ...round, atMs: 22_000 })).toBeUndefined();
  const hopeless = createLadder({ allowed: ["abort"], startedAtMs: 0, budgetMs: 600_000 });
  let last: Climb | undefined;
  for (let iteration = 1; iteration < 6; iteration += 1) {
    last ??= hopeless.observe({ ...round, iteration, atMs: iteration * 8_000 });
  }
  expect(last).toEqual({
    rung: "abort",
    why: "the guest writes 90 MiB/s, the copy carries 20 MiB/s, and 100 MiB stay",
  });
});
