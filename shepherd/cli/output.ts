/**
 * How the command speaks: tables that fit a terminal, errors in four lines (what, where, why, next), exit codes that a
 * script can use. Text that came from guests is shown without what a terminal would obey.
 */
import { ProblemError, UnreachableError } from "#api/client";
import type { Problem } from "#api/contract";
import { Fault } from "#model/fault";

export const exitCodes = {
  ok: 0,
  fault: 1,
  usage: 2,
  denied: 3,
  pending: 4,
  partial: 5,
  noShepherd: 75,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

const maxWidth = 100;
const gap = "  ";
/** Below that a cut cell tells nothing; a table of many columns is then wider than a terminal. */
const narrowest = 6;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface Output {
  readonly json: boolean;
  /** The result: text or JSON, on standard output. */
  readonly write: (text: string) => void;
  /** Progress and errors, on standard error. */
  readonly tell: (text: string) => void;
}

/** Prints the value as JSON, or its rendering for people. */
export function show(output: Output, value: unknown, render: () => string): void {
  output.write(output.json ? `${JSON.stringify(value, undefined, 2)}\n` : `${render()}\n`);
}

/** Columns as wide as their widest cell, the widest of them cut until the row fits. No rows: only the header's absence. */
export function table(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const cells = rows.map((row) => row.map((cell) => clean(String(cell))));
  const widths = header.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => row[column]?.length ?? 0)),
  );
  // An id is there to be copied: other columns give way.
  const isWhole = header.map((_, column) => cells.some((row) => uuid.test(row[column] ?? "")));
  let surplus = sum(widths) + gap.length * (widths.length - 1) - maxWidth;
  while (surplus > 0) {
    const cuttable = widths.map((width, column) => (isWhole[column] === true ? -1 : width));
    const widest = cuttable.indexOf(Math.max(...cuttable));
    if (widest < 0 || (cuttable[widest] ?? 0) <= narrowest) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
    surplus -= 1;
  }
  return [header, ...cells]
    .map((row) =>
      row
        .map((cell, column) => cut(cell, widths[column] ?? 0))
        .join(gap)
        .trimEnd(),
    )
    .join("\n");
}

/** Control and direction characters as their numbers: text of a guest must not move the cursor. */
export function clean(text: string): string {
  return text.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

export function seconds(ms: number): string {
  return ms < 120_000
    ? `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`
    : `${(ms / 60_000).toFixed(1)} min`;
}

/** `15:04:05` of today, with the date on other days. */
export function clockTime(ms: number, nowMs: number): string {
  const text = new Date(ms).toISOString().replace("T", " ").slice(0, 19);
  return text.slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10) ? text.slice(11) : text;
}

/** Tells what went wrong and returns the exit code that says it to a script. */
export function report(output: Output, error: unknown): ExitCode {
  const problem = problemOf(error);
  if (output.json) output.write(`${JSON.stringify(problem, undefined, 2)}\n`);
  else output.tell(`${renderProblem(problem)}\n`);
  return codeOf(error, problem);
}

function renderProblem(problem: Problem & { where?: string }): string {
  const refusals = (problem.findings ?? []).filter((finding) => !finding.ok);
  const [, ...why] = problem.detail.split("\n");
  return [
    `error: ${clean(problem.title)}`,
    ...(problem.where === undefined ? [] : [`where: ${clean(problem.where)}`]),
    ...(refusals.length > 0
      ? refusals.map(
          (finding) => `why:   ${finding.rule} (${finding.owner}): ${clean(finding.msg)}`,
        )
      : why.map((line) => `why:   ${clean(line)}`)),
    ...(problem.detail !== problem.title && why.length === 0 && refusals.length === 0
      ? [`why:   ${clean(problem.detail)}`]
      : []),
    `next:  ${clean(problem.hint)}`,
    `code:  ${problem.code}`,
  ].join("\n");
}

function problemOf(error: unknown): Problem & { where?: string } {
  if (error instanceof ProblemError) return error.problem;
  const base = { type: "about:blank", status: 0, details: {} };
  if (error instanceof UnreachableError) {
    return {
      ...base,
      title: "No shepherd answers",
      where: error.endpoint,
      detail: error.message.replace(`No shepherd answers at ${error.endpoint}: `, ""),
      code: error.code,
      hint: "Start it with `drover shepherd`, or name another with --endpoint or DROVER_ENDPOINT.",
    };
  }
  if (error instanceof Fault) {
    const causes: string[] = [];
    for (let cause = error.toData().cause; cause !== undefined; cause = cause.cause) {
      causes.push(cause.message);
    }
    const others = error.details["problems"];
    return {
      ...base,
      title: error.message,
      detail: [error.message, ...causes, ...otherProblems(others)].join("\n"),
      code: error.code,
      hint: error.entry.hint,
      details: { ...error.details },
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return {
    ...base,
    title: message,
    detail: error instanceof Error ? (error.stack ?? message) : message,
    code: "internal",
    hint: "This is a bug; please report it with the lines above.",
  };
}

/** A configuration tells all its problems at once; the first is the title. */
function otherProblems(problems: unknown): string[] {
  if (!Array.isArray(problems)) return [];
  return (problems as { line: number; problem: string }[])
    .slice(1)
    .map(({ line, problem }) => `also line ${line}: ${problem}`);
}

function codeOf(error: unknown, problem: Problem): ExitCode {
  if (error instanceof UnreachableError) return exitCodes.noShepherd;
  if (problem.decision !== undefined) return exitCodes.denied;
  // Whoever may not is denied, whichever rule of ours says so.
  return problem.status === 401 || problem.status === 403 ? exitCodes.denied : exitCodes.fault;
}

function cut(text: string, width: number): string {
  return text.length <= width ? text.padEnd(width) : `${text.slice(0, Math.max(0, width - 1))}…`;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

type Span = readonly [number, number];
/** A predicted or measured cost, as the API gives it. */
export interface ShownCost {
  readonly duration_ms: number;
  readonly bytes: number;
  readonly downtime_ms: number;
  readonly band?:
    | { readonly duration_ms: Span; readonly bytes: Span; readonly downtime_ms: Span }
    | undefined;
}

/** `3.20 s (2.81 s to 4.02 s), 120 MiB copied (101 to 140), 61 ms down (40 to 90)`; without a band the middles alone. */
export function predictedText({ duration_ms, bytes, downtime_ms, band }: ShownCost): string {
  const mib = (count: number) => String(Math.round(count / 2 ** 20));
  const ms = (count: number) => String(Math.round(count));
  const span = (of: Span | undefined, text: (value: number) => string) =>
    of === undefined ? "" : ` (${text(of[0])} to ${text(of[1])})`;
  return [
    `${seconds(duration_ms)}${span(band?.duration_ms, seconds)}`,
    `${mib(bytes)} MiB copied${span(band?.bytes, mib)}`,
    `${ms(downtime_ms)} ms down${span(band?.downtime_ms, ms)}`,
  ].join(", ");
}

/** Which measured figures lie outside of the band that was told; "within the band" when none does. */
export function comparedText(predicted: ShownCost, measured: ShownCost): string {
  const { band } = predicted;
  if (band === undefined) return "";
  const figures = { duration_ms: "time", bytes: "bytes", downtime_ms: "downtime" } as const;
  const outside = Object.entries(figures).flatMap(([figure, word]) => {
    const [low, high] = band[figure as keyof typeof figures];
    const value = measured[figure as keyof typeof figures];
    return value < low ? [`${word} below`] : value > high ? [`${word} above`] : [];
  });
  return outside.length === 0 ? "within the band" : `outside the band: ${outside.join(", ")}`;
}
