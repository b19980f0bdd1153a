/**
 * Clocks for the simulated world. A virtual clock stands still until a test moves it: hours pass in a second, and equal
 * seeds give equal runs. A scaled clock is the real one, faster: for stories that talk to real processes.
 * Know nothing of what waits on them.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Ms } from "#model/units";
import type { Clock } from "#ports/clock";

export interface VirtualClock extends Clock {
  /** Lets `durationMs` pass, timer by timer, with everything that the timers cause. */
  advance(durationMs: Ms): Promise<void>;
  /** Lets time pass until the promise settles; throws when `limitMs` of this clock went by without. */
  until<T>(work: Promise<T>, limitMs?: Ms): Promise<T>;
}

/** Long enough for any operation, short enough that a test which waits for ever ends. */
const defaultLimitMs = 7 * 24 * 3_600_000;

interface Timer {
  readonly atMs: Ms;
  /** Order of equal times. */
  readonly n: number;
  readonly work: () => void;
}

export function createVirtualClock(startMs: Ms = 1_700_000_000_000): VirtualClock {
  let nowMs: number = startMs;
  let count = 0;
  const timers = new Set<Timer>();

  const at: Clock["at"] = (atMs, work) => {
    // Integer milliseconds, as everywhere.
    const timer = { atMs: Math.ceil(Math.max(atMs, nowMs)), n: (count += 1), work };
    timers.add(timer);
    return () => timers.delete(timer);
  };
  const next = (): Timer | undefined => {
    let first: Timer | undefined;
    for (const timer of timers) {
      if (
        first === undefined ||
        timer.atMs < first.atMs ||
        (timer.atMs === first.atMs && timer.n < first.n)
      ) {
        first = timer;
      }
    }
    return first;
  };
  const fire = (timer: Timer): void => {
    timers.delete(timer);
    nowMs = timer.atMs;
    timer.work();
  };

  return {
    nowMs: () => nowMs,
    at,
    sleep: (durationMs, signal) => sleepBy(at, nowMs + durationMs, signal),
    async advance(durationMs) {
      const endMs = nowMs + durationMs;
      for (;;) {
        await settle();
        const timer = next();
        if (timer === undefined || timer.atMs > endMs) break;
        fire(timer);
      }
      nowMs = endMs;
      await settle();
    },
    async until(work, limitMs = defaultLimitMs) {
      const endMs = nowMs + limitMs;
      const state = { settled: false };
      const mark = () => {
        state.settled = true;
      };
      work.then(mark, mark);
      for (;;) {
        await settle();
        if (state.settled) return work;
        const timer = next();
        if (timer === undefined) {
          // Nothing to wait for in this world: real input or output may still be under way.
          await new Promise((resolve) => setTimeout(resolve, 1));
          continue;
        }
        if (timer.atMs > endMs)
          throw new Error(`still waiting after ${limitMs} ms of virtual time`);
        fire(timer);
      }
    },
  };
}

/** The real clock, `scale` times as fast from `originMs` on (wall milliseconds); 1 is the real time. */
export function createScaledClock(options: { scale: number; originMs: Ms }): Clock {
  const { scale, originMs } = options;
  // Integer milliseconds, as everywhere.
  const nowMs = (): Ms => originMs + Math.floor((Date.now() - originMs) * scale);
  const at: Clock["at"] = (atMs, work) => {
    let timer: NodeJS.Timeout | undefined;
    const arm = () => {
      const leftMs = (atMs - nowMs()) / scale;
      // Node's timers hold 31 bits of milliseconds.
      timer = setTimeout(
        () => (leftMs > maxTimerMs ? arm() : work()),
        Math.min(Math.max(0, leftMs), maxTimerMs),
      );
      timer.unref();
    };
    arm();
    return () => clearTimeout(timer);
  };
  return { nowMs, at, sleep: (durationMs, signal) => sleepBy(at, nowMs() + durationMs, signal) };
}

/** A scaled clock that goes on where the one of an earlier process was: its origin stands in a file, written once. */
export function openScaledClock(options: { scale: number; originFile: string }): Clock {
  const { scale, originFile } = options;
  if (!existsSync(originFile)) writeFileSync(originFile, `${Date.now()}\n`);
  return createScaledClock({ scale, originMs: Number(readFileSync(originFile, "utf8")) });
}

const maxTimerMs = 2 ** 31 - 1;

function sleepBy(at: Clock["at"], untilMs: Ms, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const wake = () => {
      signal?.removeEventListener("abort", giveUp);
      resolve();
    };
    const cancel = at(untilMs, wake);
    const giveUp = () => {
      cancel();
      reject(signal?.reason as Error);
    };
    signal?.addEventListener("abort", giveUp, { once: true });
  });
}

/** Lets every promise that can go on go on. Several rounds: a stream takes some to pass a chunk on. */
async function settle(): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
