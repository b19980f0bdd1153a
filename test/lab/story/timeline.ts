/**
 * Prints the story as it happens: acts, facts checked, figures measured; and keeps the figures for docs/measurements.md.
 * A failed check throws `Miss`, which ends the story with exit 1.
 */

/** A claim that did not hold. The message says what was expected and what was seen. */
export class Miss extends Error {
  override readonly name = "Miss";
}

export interface Figure {
  readonly name: string;
  readonly value: string;
}

export class Timeline {
  readonly figures: Figure[] = [];
  readonly acts: { name: string; seconds: number }[] = [];
  private readonly startedMs = performance.now();
  private readonly write: (line: string) => void;

  constructor(write: (line: string) => void = (line) => process.stdout.write(`${line}\n`)) {
    this.write = write;
  }

  /** Runs one act under its heading; its seconds are printed at the end. */
  async act<T>(name: string, work: () => Promise<T>): Promise<T> {
    const from = performance.now();
    this.write(`\n${this.stamp()}  ${bold(name)}`);
    const result = await work();
    const seconds = (performance.now() - from) / 1000;
    this.acts.push({ name, seconds });
    return result;
  }

  say(text: string): void {
    for (const line of text.split("\n")) this.write(`${this.stamp()}    ${line}`);
  }

  /** Checks a claim and prints it; throws Miss when it does not hold. */
  check(claim: string, holds: boolean, seen?: unknown): void {
    const detail =
      seen === undefined ? "" : `  (${typeof seen === "string" ? seen : JSON.stringify(seen)})`;
    if (!holds) {
      this.write(`${this.stamp()}  ✗ ${claim}${detail}`);
      throw new Miss(`${claim}${detail}`);
    }
    this.write(`${this.stamp()}  ✓ ${claim}${detail}`);
  }

  figure(name: string, value: string): void {
    this.figures.push({ name, value });
    this.write(`${this.stamp()}  · ${name}: ${value}`);
  }

  summary(): string {
    const width = Math.max(...this.figures.map((figure) => figure.name.length), 20);
    return [
      "",
      bold("Figures"),
      ...this.figures.map((figure) => `  ${figure.name.padEnd(width)}  ${figure.value}`),
      "",
      bold("Minutes"),
      ...this.acts.map(
        (act) => `  ${act.name.padEnd(width)}  ${(act.seconds / 60).toFixed(1)} min`,
      ),
      `  ${"in all".padEnd(width)}  ${((performance.now() - this.startedMs) / 60_000).toFixed(1)} min`,
    ].join("\n");
  }

  private stamp(): string {
    const seconds = (performance.now() - this.startedMs) / 1000;
    return `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
  }
}

function bold(text: string): string {
  return process.stdout.isTTY ? `\u001b[1m${text}\u001b[0m` : text;
}
