/**
 * A scenario as a person writes it: a folder with `scenario.yaml` (fleet, speeds, and a play: one command a line, with
 * the second at which it happens) and `expected.log`. Reads and checks; plays nothing.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

export interface ScenarioFile {
  readonly name: string;
  /** What is shown, in a sentence. */
  readonly title: string;
  /** Which promise, pain or published bug it comes from. */
  readonly source: string;
  /** Host by site, with CPU percent and MiB lent. */
  readonly fleet: Readonly<
    Record<string, Readonly<Record<string, { readonly cpu: number; readonly memory: number }>>>
  >;
  readonly speeds: Readonly<Record<string, number>>;
  readonly play: readonly Command[];
  /** Tell every step that is done, not only operations and what went wrong. */
  readonly steps: boolean;
  /** How long is looked on after the last command. */
  readonly watchMs: number;
  /** What is left at the end on purpose, in the words of the report: `litter`, `stuck`, `unfinished`. */
  readonly leaves: readonly string[];
}

export interface Command {
  /** Since the beginning. */
  readonly atMs: number;
  readonly text: string;
  readonly verb: string;
  /** Words without `key=value`. */
  readonly words: readonly string[];
  readonly options: Readonly<Record<string, string>>;
}

const defaultFleet = {
  north: { "north-1": { cpu: 200, memory: 1024 }, "north-2": { cpu: 200, memory: 1024 } },
  south: { "south-1": { cpu: 400, memory: 4096 } },
};

export function readScenario(folder: string, name: string): ScenarioFile {
  const text = readFileSync(join(folder, name, "scenario.yaml"), "utf8");
  const raw = parse(text) as Readonly<Record<string, unknown>>;
  const known = ["title", "source", "fleet", "speeds", "play", "watch", "leaves", "steps"];
  const strange = Object.keys(raw).filter((key) => !known.includes(key));
  if (strange.length > 0) throw new Error(`${name}: unknown keys ${strange.join(", ")}`);
  const { title, source, play } = raw;
  if (typeof title !== "string" || typeof source !== "string" || !Array.isArray(play)) {
    throw new Error(`${name}: title, source and play are needed`);
  }
  return {
    name,
    title,
    source,
    fleet: (raw["fleet"] as ScenarioFile["fleet"] | undefined) ?? defaultFleet,
    speeds: (raw["speeds"] as ScenarioFile["speeds"] | undefined) ?? {},
    play: play.map((line) => command(name, String(line))),
    watchMs: milliseconds(String(raw["watch"] ?? "1m")),
    steps: raw["steps"] === true,
    leaves: (raw["leaves"] as readonly string[] | undefined) ?? [],
  };
}

function command(name: string, line: string): Command {
  const match = /^(\S+)\s+(\S+)(?:\s+(.*))?$/.exec(line.trim());
  if (match === null) throw new Error(`${name}: "${line}" is no command`);
  const [, at = "", verb = "", rest = ""] = match;
  const all = rest.split(/\s+/).filter((word) => word !== "");
  const options = all.filter((word) => word.includes("=")).map((word) => word.split("=", 2));
  return {
    atMs: milliseconds(at),
    text: `${verb}${rest === "" ? "" : ` ${rest}`}`,
    verb,
    words: all.filter((word) => !word.includes("=")),
    options: Object.fromEntries(options) as Record<string, string>,
  };
}

/** `1.5s`, `2m`, `3h`. */
export function milliseconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  const factors = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;
  if (match === null) throw new Error(`"${text}" is no time such as 1.5s, 2m, 3h`);
  return Math.round(Number(match[1]) * factors[match[2] as keyof typeof factors]);
}
