/**
 * Scores one possible place of one machine. Lower is better. The score is the sum of the rows of `terms`, each a weight
 * and a value near 0..1; adding a term means adding a row. Pure: sees a candidate, never a fleet.
 * Shape: the metric table of ganeti htools, with our wide-area terms (papers.md 3: absent from Watcher, hbal and DRS).
 */
import type { Cost } from "#model/plan";

/** What is known of putting a machine on a host. */
export interface Candidate {
  /** Of the move there; zeros for a first placement. */
  readonly cost: Cost;
  readonly crossesSites: boolean;
  readonly leavesBaselineSite: boolean;
  /** Largest of CPU and memory use over capacity at the host afterwards, 0..1. */
  readonly fullness: number;
  /** Share of the machine's promised link rate that would then run between sites, 0..1. */
  readonly partedRate: number;
  /** Share of the shortage at the source that this move does not cure, 0..1. */
  readonly shortageLeft: number;
}

export const terms: readonly {
  readonly name: string;
  readonly weight: number;
  readonly value: (candidate: Candidate) => number;
}[] = [
  // Same site first: another owner's capacity is asked only when one's own site has none.
  { name: "crosses_sites", weight: 100, value: (c) => (c.crossesSites ? 1 : 0) },
  { name: "leaves_baseline_site", weight: 30, value: (c) => (c.leavesBaselineSite ? 1 : 0) },
  // One move that cures the shortage beats two that do not.
  { name: "shortage_left", weight: 20, value: (c) => c.shortageLeft },
  { name: "parted_rate", weight: 5, value: (c) => c.partedRate },
  { name: "move_minutes", weight: 5, value: (c) => c.cost.durationMs / 60_000 },
  { name: "downtime_seconds", weight: 5, value: (c) => c.cost.downtimeMs / 1_000 },
  { name: "fullness", weight: 1, value: (c) => c.fullness },
];

/** Rounded to a millionth, so that equal candidates are equal whatever the order of addition. */
export function scoreOf(candidate: Candidate): number {
  const score = terms.reduce((total, term) => total + term.weight * term.value(candidate), 0);
  return Math.round(score * 1e6) / 1e6;
}
