/**
 * How long the last stop of a live migration may be, while it runs: QEMU stops the guest as soon as what is left fits
 * this time. Pure; migration.ts sets what is said here.
 *
 * It begins short and grows while the guest dirties memory faster than it is copied, up to what is allowed. A move that
 * converges easily then stops for a few ten milliseconds, where a fixed limit would use all of it.
 *
 * One exception: QEMU before 9.0 forgets, when its translator (TCG) runs the guest, that a page was written again after
 * dirty pages were collected (it cleared the marks but not the translator's own table; mended upstream in March 2024).
 * The copy then lacks writes, and the guest dies later of what it finds in its memory. Measured with QEMU 7.2: with two
 * vCPUs that fork and write about 10 of 25 moves ended in a kernel panic, with one vCPU on a loaded host 1 of 2. So such a
 * guest stands still for all of its memory: the copy crawls until QEMU's first reckoning, which then finds that
 * everything fits the stop. A longer stop, but never a broken guest.
 */
import type { Ms } from "#model/units";

export interface Pace {
  /** See stopsForMemory. */
  readonly stopsForMemory: boolean;
  /** What policy and request allow. */
  readonly maxDowntimeMs: Ms;
  /** Rounds of dirty tracking so far; 1 is the first pass over all memory. */
  readonly round: number;
}

const firstDowntimeMs = 50;
/** Rounds without an end until the limit doubles. */
const roundsPerStep = 2;
/** QEMU's own maximum: at crawling speed 2,000 MiB fit it, more after QEMU's next reckoning. */
const stopAtOnceMs = 2_000_000;
/** The least that libvirt takes. Until the stop only a guest's lowest 100 KiB are copied, which Linux does not use. */
export const crawlMibps = 1;
/** First release whose translator keeps track of all writes: 9.0.0 as libvirt counts, major * 1,000,000 + minor * 1,000. */
const trackingMended = 9_000_000;

/** Whether the guest must stand still for all of its memory, for the reason above. */
export function stopsForMemory(guest: {
  readonly acceleration: "kvm" | "tcg" | "other";
  readonly qemuVersion: number;
}): boolean {
  return guest.acceleration !== "kvm" && guest.qemuVersion < trackingMended;
}

export function downtimeLimitMs(pace: Pace): Ms {
  if (pace.stopsForMemory) return stopAtOnceMs;
  const steps = Math.floor(Math.max(0, pace.round - 1) / roundsPerStep);
  return Math.min(pace.maxDowntimeMs, firstDowntimeMs * 2 ** Math.min(steps, 16));
}
