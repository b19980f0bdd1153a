import { downtimeLimitMs, type Pace } from "@drover/shepherd/libvirt/migration-pace";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const calm: Pace = { acceleration: "kvm", vcpus: 4, maxDowntimeMs: 300, round: 1 };

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
  { what: "one translated vCPU", acceleration: "tcg", vcpus: 1, stops: false },
  { what: "two translated vCPUs", acceleration: "tcg", vcpus: 2, stops: true },
  { what: "two vCPUs of an unknown kind", acceleration: "other", vcpus: 2, stops: true },
  { what: "two KVM vCPUs", acceleration: "kvm", vcpus: 2, stops: false },
] as const)(
  "a guest with $what is stopped for all of its memory: $stops",
  ({ acceleration, vcpus, stops }) => {
    for (const round of [0, 1, 9]) {
      const limitMs = downtimeLimitMs({ ...calm, acceleration, vcpus, round });
      expect(limitMs > calm.maxDowntimeMs).toBe(stops);
    }
  },
);
