import {
  createPace,
  type PaceOptions,
  stopsForMemory,
} from "@drover/shepherd/libvirt/migration-pace";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const mib = 2 ** 20;
const usual: PaceOptions = {
  stopsForMemory: false,
  maxDowntimeMs: 10_000,
  mayRaise: true,
  throttles: true,
};

/** The limit in each round; rounds are a second apart, each begins with so many MiB. */
function limitsMs(rounds: readonly number[], options: Partial<PaceOptions> = {}): number[] {
  const pace = createPace({ ...usual, ...options });
  return rounds.map((remainingMib, index) =>
    pace.limitMs({ atMs: index * 1_000, round: index + 1, remainingBytes: remainingMib * mib }),
  );
}
const stuck = (rounds: number) => [128, ...Array.from({ length: rounds - 1 }, () => 20)];

test("a copy whose rounds become smaller ends with the shortest stop, however many they are", () => {
  expect(new Set(limitsMs([128, 24, 17, 12, 8.4, 5.9, 4.1, 2.9, 2, 1.4, 1]))).toEqual(
    new Set([50]),
  );
});

test("where rounds become no smaller the stop is doubled every two, up to the usual one", () => {
  expect(limitsMs(stuck(9))).toEqual([50, 50, 50, 100, 100, 200, 200, 200, 200]);
});

test("one that grows smaller again is not given more", () => {
  expect(limitsMs([128, 20, 20, 20, 10, 10, 5, 5, 2])).toEqual([
    50, 50, 50, 100, 100, 100, 100, 100, 100,
  ]);
});

test("past the usual one slowing the guest down has its time first, where that is allowed", () => {
  expect(limitsMs(stuck(17)).slice(9)).toEqual([200, 200, 400, 400, 800, 800, 1_600, 1_600]);
  expect(limitsMs(stuck(14), { throttles: false }).slice(7)).toEqual([
    400, 400, 800, 800, 1_600, 1_600, 3_200,
  ]);
});

test("rounds that passed between two looks count, looks within a round do not", () => {
  const pace = createPace(usual);
  const look = (round: number) => pace.limitMs({ atMs: 0, round, remainingBytes: 20 * mib });
  expect([1, 1, 1, 3, 3, 3, 5].map(look)).toEqual([50, 50, 50, 100, 100, 100, 200]);
});

test("the stop is never longer than allowed, and the limit never shrinks", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60_000 }),
      fc.array(fc.nat(200), { minLength: 1 }),
      fc.boolean(),
      (maxDowntimeMs, rounds, throttles) => {
        const limits = limitsMs(rounds, { maxDowntimeMs, throttles });
        expect(Math.max(...limits)).toBeLessThanOrEqual(maxDowntimeMs);
        expect(limits).toEqual(limits.toSorted((left, right) => left - right));
      },
    ),
  );
});

test("one that must not be raised stays as it begins", () => {
  expect(new Set(limitsMs(stuck(40), { mayRaise: false }))).toEqual(new Set([50]));
  expect(createPace({ ...usual, maxDowntimeMs: 20 }).firstMs).toBe(20);
});

test.each([
  { what: "translated by QEMU 7.2", acceleration: "tcg", qemuVersion: 7_002_022, stops: true },
  { what: "translated by QEMU 9.0", acceleration: "tcg", qemuVersion: 9_000_000, stops: false },
  {
    what: "of an unknown kind in QEMU 8.2",
    acceleration: "other",
    qemuVersion: 8_002_000,
    stops: true,
  },
  { what: "run by KVM in QEMU 7.2", acceleration: "kvm", qemuVersion: 7_002_022, stops: false },
] as const)("a guest $what stands still for its memory: $stops", (guest) => {
  expect(stopsForMemory(guest)).toBe(guest.stops);
  const options = { stopsForMemory: guest.stops };
  expect(Math.min(...limitsMs(stuck(9), options)) > 200).toBe(guest.stops);
});
