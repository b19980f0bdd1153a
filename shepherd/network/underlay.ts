/**
 * The nft table that keeps LANs out of the clear: our VXLAN packets pass only through a tunnel device, or to and from
 * hosts that may be met in the clear (the same site, or where the operator said so). Whoever removes a tunnel by hand
 * stops the traffic, and lays nothing bare; who sends VXLAN from elsewhere reaches no LAN. Other people's VXLAN is not
 * touched: ours is told by its range of network identifiers. Pure.
 */
import type { Changes } from "#network/changes";
import { filterTable, firstVni } from "#network/names";
import { diffTable, type NftTable } from "#network/nft-table";
import type { ObservedFilters } from "#network/observed";
import type { HostNetworkConfig } from "#ports/host-network";

/** UDP to the port of VXLAN whose network identifier (24 bits behind 8 bytes of UDP and 4 of flags) is ours. */
const ours = `udp dport 4789 @th,96,24 >= ${firstVni}`;

export const underlay: NftTable = {
  family: "ip",
  name: filterTable,
  purpose: "nothing keeps LANs out of the clear",
  sets: { clear: { declaration: "type ipv4_addr" } },
  chains: {
    arrive: {
      hook: { type: "filter", at: "input", priority: -300 },
      rules: [`${ours} iifname != "dvw*" ip saddr != @clear counter drop`],
    },
    leave: {
      hook: { type: "filter", at: "output", priority: 300 },
      rules: [`${ours} oifname != "dvw*" ip daddr != @clear counter drop`],
    },
  },
};

export function diffUnderlay(
  wish: HostNetworkConfig,
  observed: ObservedFilters | undefined,
  expectedRules: string,
  changes: Changes,
): void {
  const elements =
    wish.tunnels === undefined ? undefined : new Map([["clear", new Set(wish.tunnels.clearPeers)]]);
  diffTable(underlay, { elements, observed, expectedRules, changes });
}
