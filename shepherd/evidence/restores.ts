/**
 * Restores that were meant: a named person says why sites saw entries that this log does not have any more, and from then
 * on exactly those checkpoints speak against nobody. The word is an event of the chain itself, so it cannot be taken back
 * or widened without being found, and every verification tells it. Pure.
 */
import type { Checkpoint } from "#evidence/checkpoint";
import type { Event, NewEvent } from "#model/event";
import type { Ms } from "#model/units";

export interface AcceptedRestore {
  readonly by: string;
  readonly reason: string;
  readonly atMs: Ms;
  /** The last entry that this log shares with what sites saw, as far as checkpoints tell. */
  readonly keptSeq: number;
  /** What was given up ends here: sites saw no later entry, epoch or moment of it. */
  readonly untilSeq: number;
  readonly untilEpoch: number;
  readonly untilMs: Ms;
}

/** Owns up to those of the checkpoints that speak against the log; undefined when none does. */
export function acceptedRestore(
  checkpoints: readonly Checkpoint[],
  conflicting: ReadonlySet<Checkpoint>,
  about: Pick<AcceptedRestore, "by" | "reason" | "atMs">,
): AcceptedRestore | undefined {
  const restore = { ...about, keptSeq: 0, untilSeq: 0, untilEpoch: 0, untilMs: 0 };
  let firstSeq = Infinity;
  for (const checkpoint of conflicting) {
    firstSeq = Math.min(firstSeq, checkpoint.seq);
    restore.untilSeq = Math.max(restore.untilSeq, checkpoint.seq);
    restore.untilEpoch = Math.max(restore.untilEpoch, checkpoint.epoch);
    restore.untilMs = Math.max(restore.untilMs, checkpoint.at_ms);
  }
  if (conflicting.size === 0) return undefined;
  for (const { seq } of checkpoints)
    if (seq < firstSeq) restore.keptSeq = Math.max(restore.keptSeq, seq);
  return restore;
}

export function restoreEvent({ atMs, ...data }: AcceptedRestore): NewEvent {
  return { kind: "evidence.restored", atMs, data };
}

export function restoreOf({ kind, atMs, data }: Event): AcceptedRestore | undefined {
  if (kind !== "evidence.restored") return undefined;
  return { ...(data as Omit<AcceptedRestore, "atMs">), atMs }; // written by restoreEvent
}

/** True when the checkpoint is of what was given up. One that is signed later, for instance of this log, never is. */
export function isGivenUp(
  { seq, epoch, at_ms }: Pick<Checkpoint, "seq" | "epoch" | "at_ms">,
  restores: readonly AcceptedRestore[],
): boolean {
  return restores.some(
    ({ keptSeq, untilSeq, untilEpoch, untilMs }) =>
      seq > keptSeq && seq <= untilSeq && epoch <= untilEpoch && at_ms <= untilMs,
  );
}
