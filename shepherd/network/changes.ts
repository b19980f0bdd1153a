/**
 * Collects what differs on a host and the commands that mend it, so that no difference is told without its mending.
 * Knows the four programs that change a host's network, not why something changes.
 */
import type { NetworkDifference } from "#ports/host-network";

/** Lines for `nft -f -`, `ip -batch -`, `bridge -batch -` and `tc -batch -`, run in this order. */
export interface NetworkBatch {
  readonly nft: readonly string[];
  readonly ip: readonly string[];
  readonly bridge: readonly string[];
  readonly tc: readonly string[];
}
export type BatchProgram = keyof NetworkBatch;

export interface Changes {
  /** Tells a difference; `commands` mend it. Links that must go first stand in `early`. */
  note(difference: NetworkDifference, commands?: Partial<NetworkBatch>): void;
  /** Link removals: before everything else of `ip`, so that a name or VNI is free again. */
  removeLink(name: string, why: NetworkDifference): void;
  result(): { readonly differences: readonly NetworkDifference[]; readonly batch: NetworkBatch };
}

export function createChanges(): Changes {
  const differences: NetworkDifference[] = [];
  const removals: string[] = [];
  const batch = {
    nft: [] as string[],
    ip: [] as string[],
    bridge: [] as string[],
    tc: [] as string[],
  };
  return {
    note(difference, commands = {}) {
      differences.push(difference);
      batch.nft.push(...(commands.nft ?? []));
      batch.ip.push(...(commands.ip ?? []));
      batch.bridge.push(...(commands.bridge ?? []));
      batch.tc.push(...(commands.tc ?? []));
    },
    removeLink(name, why) {
      differences.push(why);
      removals.push(`link delete dev ${name}`);
    },
    result: () => ({ differences, batch: { ...batch, ip: [...removals, ...batch.ip] } }),
  };
}
