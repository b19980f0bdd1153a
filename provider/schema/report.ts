/**
 * Collects diagnostics, so that a user sees all of them at once. A report may stand at an attribute; `at` goes deeper.
 * Knows nothing of the wire: `protocol/diagnostic.ts` encodes what is collected here.
 */

/** An attribute name, a key of a map, or an index of a list. */
export type PathStep = string | number;

export interface Diagnostic {
  readonly severity: "error" | "warning";
  /** What is wrong, in a line. */
  readonly summary: string;
  /** Where, why and the next step. */
  readonly detail: string;
  readonly path: readonly PathStep[];
}

export class Report {
  readonly path: readonly PathStep[];
  private readonly collected: Diagnostic[];

  constructor(path: readonly PathStep[] = [], collected: Diagnostic[] = []) {
    this.path = path;
    this.collected = collected;
  }

  at(...steps: readonly PathStep[]): Report {
    return new Report([...this.path, ...steps], this.collected);
  }
  error(summary: string, detail: string): void {
    this.add("error", summary, detail);
  }
  warning(summary: string, detail: string): void {
    this.add("warning", summary, detail);
  }
  get failed(): boolean {
    return this.collected.some((diagnostic) => diagnostic.severity === "error");
  }
  get diagnostics(): readonly Diagnostic[] {
    return this.collected;
  }

  private add(severity: Diagnostic["severity"], summary: string, detail: string): void {
    const where = formatPath(this.path);
    // Terraform points at the resource's first line for a path below a nested attribute, so the text says it too.
    const text = this.path.length > 1 ? `${where}: ${detail}` : detail;
    this.collected.push({ severity, summary, detail: text, path: this.path });
  }
}

/** `networks[0].address`, as a user would write it. */
export function formatPath(path: readonly PathStep[]): string {
  return path
    .map((step, i) => (typeof step === "number" ? `[${step}]` : i === 0 ? step : `.${step}`))
    .join("");
}
