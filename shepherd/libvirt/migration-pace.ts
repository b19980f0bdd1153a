/**
 * How long the last stop of a live migration may be, while it runs: QEMU stops the guest as soon as what is left fits
 * this time. Pure; migration.ts sets what is said here.
 *
 * It begins short and stays short for as long as rounds become smaller: the longer limit ends a copy that would have
 * converged further, with a stop as long as the limit (measured: a guest that writes at 0.7 of the line stopped for 0.5 s
 * where rounds alone raised it). When rounds become no smaller it is doubled, up to 200 ms; past that, up to
 * what is allowed, only when slowing the guest down had its time as well.
 *
 * One exception: QEMU before 9.0 forgets, when its translator (TCG) runs the guest, that a page was written again after
 * dirty pages were collected (it cleared the marks but not the translator's own table; mended upstream in March 2024).
 * The copy then lacks writes, and the guest dies later of what it finds in its memory. Measured with QEMU 7.2: with two
 * vCPUs that fork and write about 10 of 25 moves ended in a kernel panic, with one vCPU on a loaded host 1 of 2. So such a
 * guest stands still for all of its memory: the copy crawls until QEMU's first reckoning, which then finds that
 * everything fits the stop. A longer stop, but never a broken guest.
 */
import type { Bytes, Ms } from "#model/units";

export interface PaceOptions {
  /** See stopsForMemory. */
  readonly stopsForMemory: boolean;
  /** What policy and request allow. */
  readonly maxDowntimeMs: Ms;
  /** Whether it may become longer than the first one. */
  readonly mayRaise: boolean;
  /** Whether the hypervisor slows the guest down meanwhile. */
  readonly throttles: boolean;
}

/** One look at the memory's copy. */
export interface PaceLook {
  readonly atMs: Ms;
  /** Rounds of dirty tracking so far; 1 is the first pass over all memory. */
  readonly round: number;
  /** Right after a round has begun: what the guest wrote in the one before it. */
  readonly remainingBytes: Bytes;
}

export interface Pace {
  /** Before the copy. */
  readonly firstMs: Ms;
  /** What the limit is from this look on; it never shrinks. */
  limitMs(look: PaceLook): Ms;
}

const firstDowntimeMs = 50;
/** Rounds that became no smaller until the limit doubles. */
const roundsPerStep = 2;
/** A round is smaller when it is so much smaller; less is noise. */
const smallerShare = 0.1;
/** With what libvirt does while the guest stands still (0.1 to 0.2 s with a disk) it is QEMU's default of 300 ms. */
const usualDowntimeMs = 200;
/** QEMU slows a guest down by a tenth more every two rounds: what that brings is waited for. */
const throttlePatienceMs: Ms = 10_000;
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

/** Keeps what was seen of one copy; holds no clock. */
export function createPace(options: PaceOptions): Pace {
  if (options.stopsForMemory) return { firstMs: stopAtOnceMs, limitMs: () => stopAtOnceMs };
  const mostMs = options.mayRaise ? options.maxDowntimeMs : firstDowntimeMs;
  const firstMs = Math.min(firstDowntimeMs, options.maxDowntimeMs);
  let limitMs = firstMs;
  let round = 0;
  let leastBytes = Number.POSITIVE_INFINITY;
  let idleRounds = 0;
  let smallerAtMs: Ms | undefined;
  return {
    firstMs,
    limitMs(look) {
      smallerAtMs ??= look.atMs;
      if (look.round <= round) return limitMs;
      idleRounds += look.round - round;
      round = look.round;
      if (look.remainingBytes < leastBytes * (1 - smallerShare)) {
        leastBytes = look.remainingBytes;
        idleRounds = 0;
        smallerAtMs = look.atMs;
      }
      const patienceMs = limitMs < usualDowntimeMs || !options.throttles ? 0 : throttlePatienceMs;
      if (idleRounds < roundsPerStep || look.atMs - smallerAtMs < patienceMs) return limitMs;
      limitMs = Math.min(mostMs, limitMs * 2);
      idleRounds = 0;
      return limitMs;
    },
  };
}
