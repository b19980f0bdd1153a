/**
 * A place at a site where checkpoints of the evidence log are copied to, out of the journal's reach: whoever puts an old
 * database back must also change files on other people's machines. Implemented over the hosts' shells, and in memory.
 */
import type { KeyObject } from "node:crypto";
import type { SiteId } from "#model/units";

/** What checkpoints are signed with. */
export interface SigningKeys {
  readonly privateKey: KeyObject;
  /** PEM. */
  readonly publicKey: string;
}

/** The shepherd's own copy of all checkpoints; durable when `append` resolves. */
export interface CheckpointFile {
  append(lines: readonly string[]): Promise<void>;
  /** Oldest first. */
  read(): Promise<readonly string[]>;
}

export interface Witness {
  readonly siteId: SiteId;
  /** Adds whole lines at the end; durable at the site when it resolves. `publicKey` is kept from the first time on. */
  append(lines: readonly string[], publicKey: string): Promise<void>;
  /** What it keeps, oldest first; `publicKey` undefined when nothing was ever written. Faults `host.unreachable`, … */
  read(): Promise<{ readonly lines: readonly string[]; readonly publicKey: string | undefined }>;
}
