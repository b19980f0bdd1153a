/**
 * What is done about a copy that does not end, rung by rung: a longer last stop, more of the line, slowing the guest,
 * post-copy, giving up. Each rung is one that policy allows. Pure: it sees what the hypervisor says of each round, and
 * says what to do next. Two things it knows for sure: a guest that dirties memory faster than the line carries never ends
 * by itself, and a rung needs time to work.
 *
 * "Gets further" is an idea of KubeVirt's (2026): what is left at the end of a round must have become less by 4 %.
 * The longer stop is taken in small steps by whoever talks to the hypervisor (libvirt/migration-pace.ts), because it
 * must follow each round at once; slowing the guest is the hypervisor's own (auto-converge). Both are only allowed or
 * forbidden here, and given their time.
 */
import type { Bytes, Mbps, Ms } from "#model/units";

/** In the order in which they are climbed. */
export const rungs = ["downtime", "bandwidth", "throttle", "post_copy", "abort"] as const;
export type Rung = (typeof rungs)[number];

/** What is allowed when policy says nothing: post-copy costs the guest when the line breaks in it. */
export const defaultRungs: readonly Rung[] = ["downtime", "bandwidth", "throttle", "abort"];

export interface Round {
  readonly atMs: Ms;
  /** Rounds of dirty tracking so far; 1 is the first pass over all memory. */
  readonly iteration: number;
  readonly remainingBytes: Bytes;
  readonly bytesPerS?: Bytes | undefined;
  readonly dirtyBytesPerS?: Bytes | undefined;
}

export interface LadderOptions {
  readonly allowed: readonly Rung[];
  readonly startedAtMs: Ms;
  /** After that long the move ends, one way or the other. */
  readonly budgetMs: Ms;
  /** What the copy was given to begin with; undefined: all there is. */
  readonly bandwidthMbps?: Mbps | undefined;
  /** What policy allows at most. */
  readonly maxMbps?: Mbps | undefined;
}

export type Climb =
  | { readonly rung: "bandwidth"; readonly toMbps: Mbps | undefined }
  | { readonly rung: "downtime" | "throttle" | "post_copy" }
  | { readonly rung: "abort"; readonly why: string };

/** A round that leaves this share less than the best before has got further. */
const furtherShare = 0.04;
/** Rounds that get no further until the next rung; the first pass is no sign of anything. */
const patienceRounds = 3;
/** A rung's time to work: rounds of an almost idle guest take milliseconds. */
const patienceMs: Ms = 10_000;

export interface Ladder {
  /** Told of each look at the copy; says what to do now, if anything. */
  observe(round: Round): Climb | undefined;
  /** What has been climbed so far, for the record. */
  readonly climbed: readonly Rung[];
}

export function createLadder(options: LadderOptions): Ladder {
  const climbed: Rung[] = [];
  const left = rungs.filter((rung) => options.allowed.includes(rung) && isOf(rung, options));
  let bestBytes = Number.POSITIVE_INFINITY;
  let bestIteration = 0;
  let sinceMs = options.startedAtMs;
  let iteration = 0;

  const climb = (rung: Rung, atMs: Ms, why: string): Climb => {
    climbed.push(rung);
    sinceMs = atMs;
    bestIteration = iteration;
    switch (rung) {
      case "bandwidth":
        return { rung, toMbps: options.maxMbps };
      case "abort":
        return { rung, why };
      case "downtime":
      case "throttle":
      case "post_copy":
        return { rung };
    }
  };

  return {
    climbed,
    observe(round) {
      const { atMs, remainingBytes } = round;
      if (climbed.includes("abort") || climbed.includes("post_copy")) return undefined;
      if (atMs - options.startedAtMs > options.budgetMs && options.allowed.includes("abort")) {
        return climb("abort", atMs, `it has not ended within ${options.budgetMs} ms`);
      }
      // What is left means something only when a round has ended.
      if (round.iteration <= iteration) return undefined;
      iteration = round.iteration;
      if (remainingBytes < bestBytes * (1 - furtherShare)) {
        bestBytes = remainingBytes;
        bestIteration = iteration;
        sinceMs = atMs;
        return undefined;
      }
      if (iteration - bestIteration < patienceRounds || atMs - sinceMs < patienceMs) {
        return undefined;
      }
      const next = left.shift();
      return next === undefined ? undefined : climb(next, atMs, whyHopeless(round));
    },
  };
}

/** A copy that has the whole line already has no such rung. */
function isOf(rung: Rung, { bandwidthMbps, maxMbps }: LadderOptions): boolean {
  if (rung !== "bandwidth") return true;
  return bandwidthMbps !== undefined && bandwidthMbps < (maxMbps ?? Number.POSITIVE_INFINITY);
}

function whyHopeless({ dirtyBytesPerS, bytesPerS, remainingBytes }: Round): string {
  const mib = (bytes: Bytes) => Math.round(bytes / 2 ** 20);
  if (dirtyBytesPerS !== undefined && bytesPerS !== undefined) {
    return `the guest writes ${mib(dirtyBytesPerS)} MiB/s, the copy carries ${mib(bytesPerS)} MiB/s, and ${mib(remainingBytes)} MiB stay`;
  }
  return `${mib(remainingBytes)} MiB stay, round after round`;
}
