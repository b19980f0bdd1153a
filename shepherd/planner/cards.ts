/**
 * Which of a machine's network cards stay when its specification names other networks. Pure: a card is kept where its
 * network is still named, with its address or with none; another address is another card, so that a guest hears of it as
 * of any new card. Gives no address and plugs nothing.
 */
import type { ObservedMachine } from "#model/facts";
import type { MachineRecord, Nic, NicSpec } from "#model/objects";

export interface MatchedCards {
  /** As the specification lists them; undefined: there is no such card yet. */
  readonly kept: readonly (Nic | undefined)[];
  readonly gone: readonly Nic[];
}

/** A card whose address is named goes to that name first; what leaves it open takes what is left of its network. */
export function matchCards(nics: readonly Nic[], wanted: readonly NicSpec[]): MatchedCards {
  const free = [...nics];
  const take = (fits: (nic: Nic) => boolean): Nic | undefined => {
    const at = free.findIndex(fits);
    return at < 0 ? undefined : free.splice(at, 1)[0];
  };
  const named = wanted.map(({ networkId, address }) =>
    address === undefined
      ? undefined
      : take((nic) => nic.networkId === networkId && nic.address === address),
  );
  const kept = wanted.map(({ networkId, address }, index) =>
    address === undefined ? take((nic) => nic.networkId === networkId) : named[index],
  );
  return { kept, gone: free };
}

/** Cards that somebody has unplugged, as far as its host says. */
export function unplugged(
  { effective }: MachineRecord,
  seen: ObservedMachine | undefined,
): readonly Nic[] {
  if (seen?.macs === undefined || !seen.running || seen.hostId !== effective.hostId) return [];
  const there = new Set(seen.macs);
  return effective.nics.filter(({ mac }) => !there.has(mac));
}

/** Whether these cards are what the specification names, in its order. */
export function hasCards(nics: readonly Nic[], wanted: readonly NicSpec[]): boolean {
  const { kept, gone } = matchCards(nics, wanted);
  return gone.length === 0 && kept.every((nic, at) => nic !== undefined && nic === nics[at]);
}
