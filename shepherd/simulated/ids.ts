/** UUIDv7 from a clock and a seed: sorted by time, the same in every run of the same seed. */
import type { Clock, Ids } from "#ports/clock";
import { createRandom } from "#simulated/random";

export function createSeededIds(options: { clock: Clock; seed: number }): Ids {
  const random = createRandom(options.seed);
  const digits = (count: number) =>
    Array.from({ length: count }, () => Math.floor(random() * 16).toString(16)).join("");
  let lastMs = 0;
  let count = 0;
  return {
    next() {
      const nowMs = options.clock.nowMs();
      // The 12 bits after the version count within a millisecond, so that ids sort as they were given.
      count = nowMs === lastMs ? count + 1 : 0;
      lastMs = nowMs;
      const time = nowMs.toString(16).padStart(12, "0");
      const order = (count % 4096).toString(16).padStart(3, "0");
      const variant = (8 + Math.floor(random() * 4)).toString(16);
      return `${time.slice(0, 8)}-${time.slice(8)}-7${order}-${variant}${digits(3)}-${digits(12)}`;
    },
  };
}
