/**
 * The optional `timeouts` attribute: how long Terraform waits for each verb. The work itself belongs to the shepherd and
 * is not ended by it. Durations as Go writes them (`90s`, `1h30m`), which is what Terraform users know.
 */
import { attributes, type Validator } from "#schema/attribute";
import { isObject, type ObjectValue } from "#schema/value";

export type Verb = "create" | "read" | "update" | "delete";

/** Why a verb's signal was aborted when its time was over. */
export class TimeoutReached extends Error {
  override readonly name = "TimeoutReached";
  readonly timeoutMs: number;
  constructor(verb: string, timeoutMs: number) {
    super(`not finished within timeouts.${verb} = ${formatDuration(timeoutMs)}`);
    this.timeoutMs = timeoutMs;
  }
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds; undefined when it is no duration, or none above zero. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  const parts = text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g);
  const ms = [...parts].reduce(
    (sum, part) => sum + Number(part[1]) * (unitMs[part[2] ?? ""] ?? 0),
    0,
  );
  return ms > 0 && Number.isFinite(ms) ? ms : undefined;
}

export function formatDuration(ms: number): string {
  const parts = (["h", "m", "s", "ms"] as const).reduce(
    ({ rest, text }, unit) => {
      const size = unitMs[unit] ?? 1;
      const count = Math.floor(rest / size);
      return { rest: rest - count * size, text: count === 0 ? text : `${text}${count}${unit}` };
    },
    { rest: Math.round(ms), text: "" },
  );
  return parts.text === "" ? "0s" : parts.text;
}

export const duration: Validator = (value, report) => {
  if (parseDuration(String(value)) === undefined)
    report.error("Not a duration", `"${value}" given; write one such as 30m, 90s or 1h30m.`);
};

/** Declares `timeouts` for these verbs; the values are the defaults, shown in the documentation. */
export function timeoutsAttribute(defaults: Partial<Readonly<Record<Verb, string>>>) {
  const nested = Object.fromEntries(
    Object.entries(defaults).map(([verb, text]) => [
      verb,
      {
        type: "string",
        optional: true,
        description: `How long to wait at ${verb}: \`${text}\` when unset.`,
        validators: [duration],
      } as const,
    ]),
  );
  return {
    type: { nesting: "single", attributes: attributes(nested) },
    optional: true,
    description:
      "How long Terraform waits. The work goes on at the shepherd; the next apply joins it.",
    defaultTimeouts: defaults,
  } as const;
}

/** Milliseconds for a verb of a resource with `timeouts`; undefined when it has none, or is silent about the verb. */
export function timeoutMs(
  declared: Readonly<Record<string, object>>,
  values: ObjectValue,
  verb: Verb,
): number | undefined {
  const { timeouts } = declared;
  if (timeouts === undefined || !("defaultTimeouts" in timeouts)) return undefined;
  const given = values["timeouts"];
  const text = isObject(given) ? given[verb] : null;
  const fallback = (timeouts.defaultTimeouts as Partial<Record<Verb, string>>)[verb];
  return parseDuration(typeof text === "string" ? text : (fallback ?? ""));
}
