/** Time and ids of the real world: the ports/clock that the daemon runs on. Tests and the simulation have their own. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock, Ids } from "#ports/clock";

/** setTimeout's own limit; a later time is reached in several sleeps. */
const longestTimerMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  async sleep(durationMs, signal) {
    signal?.throwIfAborted();
    try {
      await sleep(Math.max(0, durationMs), undefined, {
        ref: false, // main.ts keeps the process while it is wanted
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      // Node's own AbortError would hide why it was aborted.
      signal?.throwIfAborted();
      throw error;
    }
  },
  at(atMs, work) {
    let timer: NodeJS.Timeout | undefined;
    const arm = () => {
      const leftMs = atMs - Date.now();
      timer = setTimeout(
        leftMs > longestTimerMs ? arm : work,
        Math.min(Math.max(0, leftMs), longestTimerMs),
      );
      timer.unref();
    };
    arm();
    return () => clearTimeout(timer);
  },
};

/** UUIDv7 (RFC 9562), rising also within a millisecond and when the clock was set back. */
export function createIds(clock: Pick<Clock, "nowMs"> = systemClock): Ids {
  let lastMs = 0;
  let count = 0;
  return {
    next() {
      const nowMs = clock.nowMs();
      if (nowMs > lastMs) {
        lastMs = nowMs;
        count = 0;
      } else {
        count += 1;
        // The 12 bits after the version are full: borrow the next millisecond.
        if (count > 0xfff) {
          lastMs += 1;
          count = 0;
        }
      }
      const random = randomBytes(8);
      random.writeUInt8(0x80 | (random.readUInt8(0) & 0x3f), 0);
      const time = lastMs.toString(16).padStart(12, "0");
      const tail = random.toString("hex");
      return [
        time.slice(0, 8),
        time.slice(8),
        `7${count.toString(16).padStart(3, "0")}`,
        tail.slice(0, 4),
        tail.slice(4),
      ].join("-");
    },
  };
}
