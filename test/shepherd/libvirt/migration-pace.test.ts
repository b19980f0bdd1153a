import {
  downtimeLimitMs,
  type Pace,
  stopsForMemory,
} from "@drover/shepherd/libvirt/migration-pace";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const calm: Pace = { stopsForMemory: false, maxDowntimeMs: 300, round: 1 };

test.each([
  { round: 0, limitMs: 50 },
  { round: 2, limitMs: 50 },
  { round: 3, limitMs: 100 },
  { round: 5, limitMs: 200 },
  { round: 7, limitMs: 300 },
  { round: 99, limitMs: 300 },
])("round $round may end with a stop of $limitMs ms", ({ round, limitMs }) => {
  expect(downtimeLimitMs({ ...calm, round })).toBe(limitMs);
});

test("the stop is never longer than allowed, and the limit never shrinks", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60_000 }), fc.nat(200), (maxDowntimeMs, round) => {
      const now = downtimeLimitMs({ ...calm, maxDowntimeMs, round });
      const next = downtimeLimitMs({ ...calm, maxDowntimeMs, round: round + 1 });
      expect(now).toBeLessThanOrEqual(maxDowntimeMs);
      expect(next).toBeGreaterThanOrEqual(now);
    }),
  );
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
  for (const round of [0, 1, 9]) {
    const limitMs = downtimeLimitMs({ ...calm, stopsForMemory: guest.stops, round });
    expect(limitMs > calm.maxDowntimeMs).toBe(guest.stops);
  }
});
