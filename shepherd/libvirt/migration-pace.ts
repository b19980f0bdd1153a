/**
 * How long the last stop of a live migration may be, while it runs: QEMU stops the guest as soon as what is left fits
 * this time. Pure; migration.ts sets what is said here.
 *
 * It begins short and grows while the guest dirties memory faster than it is copied, up to what is allowed. A move that
 * converges easily then stops for a few ten milliseconds, where a fixed limit would use all of it.
 *
 * One exception: QEMU's translator (TCG) with several vCPUs can lose a write when it looks for dirty pages while the
 * guest runs, which corrupts the guest. Measured with QEMU 7.2, two vCPUs that fork and write all the time: about 10 of 25
 * moves with many rounds ended in a kernel panic, 2 of 30 with one or two rounds, none of 30 when the guest stood still
 * for all of its memory, and none of 87 with one vCPU. Such a guest is stopped before its memory is copied: longer than
 * asked, but never broken.
 */
import type { Ms } from "#model/units";

export interface Pace {
  readonly acceleration: "kvm" | "tcg" | "other";
  /** Plugged ones: what a machine has given back but cannot unplug counts. */
  readonly vcpus: number;
  /** What policy and request allow. */
  readonly maxDowntimeMs: Ms;
  /** Rounds of dirty tracking so far; 1 is the first pass over all memory. */
  readonly round: number;
}

const firstDowntimeMs = 50;
/** Rounds without an end until the limit doubles. */
const roundsPerStep = 2;
/** All of a guest's memory fits this. */
const stopAtOnceMs = 60_000;

export function downtimeLimitMs(pace: Pace): Ms {
  if (pace.acceleration !== "kvm" && pace.vcpus > 1) return stopAtOnceMs;
  const steps = Math.floor(Math.max(0, pace.round - 1) / roundsPerStep);
  return Math.min(pace.maxDowntimeMs, firstDowntimeMs * 2 ** Math.min(steps, 16));
}
