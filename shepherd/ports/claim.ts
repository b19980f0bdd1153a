/**
 * A shepherd's claim to a host. A host knows whose it is: it refuses an older shepherd, and another installation, before
 * either can touch anything, and it ends the connections of a predecessor that may still be alive (stopped, cut off).
 */
export interface HostClaim {
  /** The journal's line: copies and backups have the same. */
  readonly lineage: string;
  /** Fencing epoch: the higher one wins. */
  readonly epoch: number;
  /** This process: two with one epoch (copies of a journal) are told apart. */
  readonly holder: string;
}

/** Why a host refuses; undefined: it does not. */
export function refusalOf(
  held: HostClaim | undefined,
  claim: HostClaim,
): "other_installation" | "newer_shepherd" | undefined {
  if (held === undefined) return undefined;
  if (held.lineage !== claim.lineage) return "other_installation";
  if (held.epoch > claim.epoch) return "newer_shepherd";
  if (held.epoch === claim.epoch && held.holder !== claim.holder) return "newer_shepherd";
  return undefined;
}
