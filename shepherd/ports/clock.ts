/** Time and fresh ids come from outside, so that hours pass in a second and a seed reproduces a run. */
import type { Ms } from "#model/units";

export interface Clock {
  /** Wall clock, integer milliseconds since 1970. */
  nowMs(): Ms;
  /** Resolves after `durationMs` of this clock, or rejects with the signal's reason when aborted. */
  sleep(durationMs: Ms, signal?: AbortSignal): Promise<void>;
  /** Calls `work` once at or soon after `atMs`; the result cancels it. Never keeps the process alive by itself. */
  at(atMs: Ms, work: () => void): () => void;
}

export interface Ids {
  /** A fresh UUIDv7. */
  next(): string;
}
