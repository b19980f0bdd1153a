/** Points in time as people write them: a duration from now, a time of day, a date. Pure; UTC, as everything printed is. */
import { InvalidArgumentError } from "commander";

const dayMs = 86_400_000;
const units = { s: 1_000, m: 60_000, h: 3_600_000, d: dayMs } as const;

/** `2h`, `08:00` (the next one), `2026-12-01`, `2026-12-01T08:00Z`; as milliseconds of the epoch, later than `nowMs`. */
export function momentMs(text: string, nowMs: number): number {
  const found = fromNow(text, nowMs) ?? timeOfDay(text, nowMs) ?? date(text);
  if (found === undefined || found <= nowMs) {
    throw new InvalidArgumentError(
      "Write a time to come: 2h, 08:00, 2026-12-01 or 2026-12-01T08:00Z (UTC).",
    );
  }
  return found;
}

function fromNow(text: string, nowMs: number): number | undefined {
  const match = /^(\d{1,6})(s|m|h|d)$/.exec(text);
  return match === null
    ? undefined
    : nowMs + Number(match[1]) * units[match[2] as keyof typeof units];
}

function timeOfDay(text: string, nowMs: number): number | undefined {
  const match = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(text);
  if (match === null) return undefined;
  const today =
    Math.floor(nowMs / dayMs) * dayMs + Number(match[1]) * units.h + Number(match[2]) * units.m;
  return today > nowMs ? today : today + dayMs;
}

function date(text: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?Z)?$/.test(text)) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}
