/**
 * Collects what differs on a host and the commands that mend it, so that no difference is told without its mending.
 * Knows the programs that change a host's network, not why something changes.
 */
import type { NetworkDifference } from "#ports/host-network";

/**
 * Lines for `sh -e`, `nft -f -`, `ip -batch -`, `bridge -batch -`, `tc -batch -` and `sh -e` again, run in this order:
 * `start` makes what the others need, `end` cleans up.
 */
export interface NetworkBatch {
  readonly start: readonly string[];
  readonly nft: readonly string[];
  readonly ip: readonly string[];
  readonly bridge: readonly string[];
  readonly tc: readonly string[];
  readonly end: readonly string[];
}
export type BatchProgram = keyof NetworkBatch;

export interface Changes {
  /** Tells a difference; `commands` mend it. Links that must go first stand in `early`. */
  note(difference: NetworkDifference, commands?: Partial<NetworkBatch>): void;
  /** Commands of `start` that belong to a difference already told. */
  addStart(...lines: readonly string[]): void;
  /** Commands of `ip` that belong to a difference already told. */
  addIp(...lines: readonly string[]): void;
  /** Link removals: before everything else of `ip`, so that a name or VNI is free again. */
  removeLink(name: string, why: NetworkDifference): void;
  result(): { readonly differences: readonly NetworkDifference[]; readonly batch: NetworkBatch };
}

export function createChanges(): Changes {
  const differences: NetworkDifference[] = [];
  const removals: string[] = [];
  const batch = {
    start: [] as string[],
    nft: [] as string[],
    ip: [] as string[],
    bridge: [] as string[],
    tc: [] as string[],
    end: [] as string[],
  };
  return {
    note(difference, commands = {}) {
      differences.push(difference);
      batch.start.push(...(commands.start ?? []));
      batch.nft.push(...(commands.nft ?? []));
      batch.ip.push(...(commands.ip ?? []));
      batch.bridge.push(...(commands.bridge ?? []));
      batch.tc.push(...(commands.tc ?? []));
      batch.end.push(...(commands.end ?? []));
    },
    addIp(...lines) {
      batch.ip.push(...lines);
    },
    addStart(...lines) {
      batch.start.push(...lines);
    },
    removeLink(name, why) {
      differences.push(why);
      removals.push(`link delete dev ${name}`);
    },
    result: () => ({ differences, batch: { ...batch, ip: [...removals, ...batch.ip] } }),
  };
}
