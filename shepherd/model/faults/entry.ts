/** One row of the catalogue of fault codes: what a code says to whoever meets it. */

/** What a caller may do: never = the same call fails again; later = it may pass; after_reconcile = look at the world first. */
export type FaultRetry = "never" | "later" | "after_reconcile";

export interface FaultEntry {
  /** What happened, in a line; `{name}` is filled from the details. */
  readonly title: string;
  /** The next step for the person who reads it. */
  readonly hint: string;
  readonly status: number;
  readonly retry: FaultRetry;
}

export function entry(status: number, retry: FaultRetry, title: string, hint: string): FaultEntry {
  return { title, hint, status, retry };
}
