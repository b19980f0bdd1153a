/**
 * Reads YAML with its positions into typed values: readers are put together like types, and every problem names the key,
 * the line, and what would be right. All problems of a file are reported at once. Knows no key of drover.yaml.
 */
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { Fault } from "#model/fault";

/** Turns a YAML node into a value, or throws a BadValue that names its place. */
export type Reader<T> = (node: unknown, at: Place) => T;

export interface Place {
  /** `sites[0].hosts[1].lend.memory_mib` */
  readonly path: string;
  /** Of the key, for values that are absent. */
  readonly line: number;
  readonly file: FileProblems;
}
interface FileProblems {
  readonly lines: LineCounter;
  readonly problems: Problem[];
}
export interface Problem {
  readonly line: number;
  readonly path: string;
  readonly problem: string;
}

/** A key's reader, and what holds when it is absent. */
interface Field<T> {
  readonly read: Reader<T>;
  readonly absent: { readonly value: T } | undefined;
}
export function required<T>(read: Reader<T>): Field<T> {
  return { read, absent: undefined };
}
export function optional<T>(read: Reader<T>): Field<T | undefined>;
export function optional<T>(read: Reader<T>, value: T): Field<T>;
export function optional<T>(read: Reader<T>, value?: T): Field<T | undefined> {
  return { read, absent: { value } };
}

/** Thrown within this file only; object and list collect it. */
class BadValue extends Error {
  readonly line: number;
  readonly path: string;
  constructor(at: { line: number; path: string }, problem: string) {
    super(problem);
    this.line = at.line;
    this.path = at.path;
  }
}

/** Reads the text whole. Fault `config.invalid` has the first problem in its message and all of them in `problems`. */
export function readYaml<T>(text: string, options: { file: string; reader: Reader<T> }): T {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const problems: Problem[] = document.errors.map((error) => ({
    line: error.linePos?.[0].line ?? 1,
    path: "",
    problem: error.message.split("\n")[0] ?? "not YAML",
  }));
  let value: T | undefined;
  if (problems.length === 0) {
    try {
      value = options.reader(document.contents, { path: "", line: 1, file: { lines, problems } });
    } catch (error) {
      problems.push(asProblem(error));
    }
  }
  const first = problems.toSorted((left, right) => left.line - right.line)[0];
  if (first !== undefined) {
    throw new Fault("config.invalid", {
      file: options.file,
      line: first.line,
      problem: first.problem,
      problems,
    });
  }
  return value as T; // without a problem the reader returned
}

/** An object of exactly these keys. An unknown one is a problem that names the nearest known key. */
export function object<Fields extends Record<string, Field<unknown>>>(
  fields: Fields,
): Reader<{ readonly [Key in keyof Fields]: Fields[Key] extends Field<infer T> ? T : never }> {
  return (node, at) => {
    if (!isMap(node)) throw wrongType(node, at, `keys (${Object.keys(fields).join(", ")})`);
    const values: Record<string, unknown> = {};
    const here = lineOf(node, at);
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : "?";
      const place = { ...at, path: join(at.path, name), line: lineOf(key, at) };
      const field = fields[name];
      if (field === undefined) {
        at.file.problems.push({
          line: place.line,
          path: place.path,
          problem: unknownKey(name, at.path, Object.keys(fields)),
        });
        continue;
      }
      collect(place, () => {
        values[name] = field.read(value, place);
      });
    }
    for (const [name, field] of Object.entries(fields)) {
      if (name in values || at.file.problems.some((one) => one.path === join(at.path, name)))
        continue;
      if (field.absent === undefined) {
        at.file.problems.push({
          line: here,
          path: join(at.path, name),
          problem: `${at.path === "" ? "the file" : at.path} lacks the key ${name}`,
        });
      } else {
        values[name] = field.absent.value;
      }
    }
    return values as never; // every field was read, defaulted, or is a collected problem
  };
}

export function list<T>(
  read: Reader<T>,
  options: { readonly min?: number } = {},
): Reader<readonly T[]> {
  return (node, at) => {
    if (!isSeq(node)) throw wrongType(node, at, "a list");
    if (node.items.length < (options.min ?? 0)) {
      throw new BadValue(at, `${at.path} needs at least ${options.min}`);
    }
    const values: T[] = [];
    node.items.forEach((item, index) => {
      const place = { ...at, path: `${at.path}[${index}]`, line: lineOf(item, at) };
      collect(place, () => values.push(read(item, place)));
    });
    return values;
  };
}

/** Names chosen by the user, each with a value. */
export function named<T>(read: Reader<T>): Reader<Readonly<Record<string, T>>> {
  return (node, at) => {
    if (!isMap(node)) throw wrongType(node, at, "names with values");
    const values: Record<string, T> = {};
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : "?";
      const place = { ...at, path: join(at.path, name), line: lineOf(key, at) };
      collect(place, () => {
        values[name] = read(value, place);
      });
    }
    return values;
  };
}

export function text(
  options: { readonly pattern?: RegExp; readonly like?: string } = {},
): Reader<string> {
  return (node, at) => {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== "string" || value === "") throw wrongType(node, at, "a text");
    if (options.pattern !== undefined && !options.pattern.test(value)) {
      throw new BadValue(
        place(node, at),
        `${at.path} is ${JSON.stringify(value)}, which is not ${options.like ?? "allowed"}`,
      );
    }
    return value;
  };
}

/** A whole number of `unit`. A number with a unit in it ("4GiB") is told the number it would be. */
export function integer(options: {
  readonly unit: Unit;
  readonly min: number;
  readonly max: number;
}): Reader<number> {
  return (node, at) => {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== "number" || !Number.isInteger(value)) {
      const meant = typeof value === "string" ? inUnit(value, options.unit) : undefined;
      const hint = meant === undefined ? "" : `; write ${at.path.split(".").at(-1)}: ${meant}`;
      throw wrongType(node, at, `a whole number${unitText(options.unit)}`, hint);
    }
    if (value < options.min || value > options.max) {
      throw new BadValue(
        place(node, at),
        `${at.path} is ${value}; it must be from ${options.min} to ${options.max}${unitText(options.unit)}`,
      );
    }
    return value;
  };
}

export function yesOrNo(): Reader<boolean> {
  return (node, at) => {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== "boolean") throw wrongType(node, at, "true or false");
    return value;
  };
}

export function oneOf<const T extends string>(...allowed: readonly T[]): Reader<T> {
  return (node, at) => {
    const value = isScalar(node) ? node.value : undefined;
    const found = allowed.find((one) => one === value);
    if (found === undefined) throw wrongType(node, at, `one of ${allowed.join(", ")}`);
    return found;
  };
}

/** A value that another reader read, then changed or refused; a thrown Error's message becomes the problem. */
export function checked<T, Out>(read: Reader<T>, change: (value: T) => Out): Reader<Out> {
  return (node, at) => {
    const value = read(node, at);
    try {
      return change(value);
    } catch (error) {
      throw new BadValue(
        place(node, at),
        `${at.path}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  };
}

export type Unit = "mib" | "gib" | "percent" | "ms" | "port" | "mbps" | "count";
const mibOf: Readonly<Record<string, number>> = { mib: 1, gib: 1024, tib: 1024 * 1024 };

function unitText(unit: Unit): string {
  const texts: Record<Unit, string> = {
    mib: " of MiB",
    gib: " of GiB",
    percent: " of percent of one core",
    ms: " of milliseconds",
    port: "",
    mbps: " of Mbit/s",
    count: "",
  };
  return texts[unit];
}

function inUnit(value: string, unit: Unit): number | undefined {
  const match = /^\s*(\d+)\s*([a-z%]*)\s*$/i.exec(value);
  if (match === null) return undefined;
  const number = Number(match[1]);
  const given = (match[2] ?? "").toLowerCase().replace(/^([mgt])b?$/, "$1ib");
  if (given === "" || (given === "%" && unit === "percent")) return number;
  if (given === "s" && unit === "ms") return number * 1000;
  const size = mibOf[given];
  if (size === undefined || (unit !== "mib" && unit !== "gib")) return undefined;
  const whole = (number * size) / (unit === "mib" ? 1 : 1024);
  return Number.isInteger(whole) ? whole : undefined;
}

function unknownKey(name: string, where: string, known: readonly string[]): string {
  const nearest = known
    .map((key) => ({ key, distance: keyDistance(name, key) }))
    .toSorted((left, right) => left.distance - right.distance)[0];
  const near =
    nearest !== undefined && nearest.distance <= Math.max(3, name.length / 2)
      ? `; did you mean ${nearest.key}?`
      : `; known keys: ${known.join(", ")}`;
  return `unknown key ${name}${where === "" ? "" : ` in ${where}`}${near}`;
}

/** Same stem with another unit (`memory_gib`, `memory_mib`) is nearer than any spelling. */
function keyDistance(name: string, key: string): number {
  const stem = (word: string) =>
    word.replace(/_(mib|gib|mb|gb|bytes|ms|s|percent|mbps|file|path|dir)$/, "");
  return stem(name) === stem(key) ? 0 : editDistance(name, key);
}

function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= right.length; j += 1) {
      const replace = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, replace));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

function wrongType(node: unknown, at: Place, wanted: string, hint = ""): BadValue {
  const what = isScalar(node)
    ? JSON.stringify(node.value)
    : isSeq(node)
      ? "a list"
      : isMap(node)
        ? "keys with values"
        : "empty";
  return new BadValue(
    place(node, at),
    `${at.path === "" ? "the file" : at.path} must be ${wanted}, but is ${what}${hint}`,
  );
}

function collect(at: Place, work: () => void): void {
  try {
    work();
  } catch (error) {
    at.file.problems.push(asProblem(error));
  }
}

function asProblem(error: unknown): Problem {
  if (!(error instanceof BadValue)) throw error;
  return { line: error.line, path: error.path, problem: error.message };
}

function place(node: unknown, at: Place): { line: number; path: string } {
  return { line: lineOf(node, at), path: at.path };
}

function lineOf(node: unknown, at: Place): number {
  const range = (node as { range?: readonly number[] | null } | null)?.range;
  const offset = range?.[0];
  return offset === undefined ? at.line : at.file.lines.linePos(offset).line;
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}
