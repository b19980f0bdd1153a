/**
 * The nft table that keeps guests from pretending: a frame leaves a tap only with the tap's MAC, as IPv4 with its
 * address, or as ARP that speaks for itself; a blocked port neither sends nor receives; a tap that no wish names is
 * shut (fail closed); nothing of a guest reaches the host's own stack; no guest floods a LAN, and no LAN service hears
 * another host's machines. Rules never change, only the elements of sets. Bridge family, no connection tracking. Pure.
 */
import type { Changes } from "#network/changes";
import { filterTable } from "#network/names";
import {
  diffTable,
  type NftElements,
  type NftTable,
  probeText,
  tableText,
} from "#network/nft-table";
import type { ObservedFilters } from "#network/observed";
import type { HostNetworkConfig } from "#ports/host-network";

/**
 * Broadcast and multicast are copied to every host of a LAN: a machine may send this many frames a second of them. ARP
 * of a thousand peers and the discovery of usual programs stay far below.
 */
const floodLimit = "limit rate over 1000/second burst 1000 packets";

/** Hooks: before everything of other tables on the way in, after it on the way out. */
export const filters: NftTable = {
  family: "bridge",
  name: filterTable,
  purpose: "no filter keeps guests from pretending",
  sets: {
    taps: { declaration: "typeof iifname", byInterface: true },
    blocked: { declaration: "typeof iifname", byInterface: true },
    macs: { declaration: "typeof iifname . ether saddr", byInterface: true },
    addresses: { declaration: "typeof iifname . ether saddr . ip saddr", byInterface: true },
    floods: {
      declaration: "typeof iifname; size 65535; flags dynamic,timeout; timeout 10s",
      dynamic: true,
    },
  },
  chains: {
    // VLAN tags, IPv6 and everything else that a network does not carry ends at the last rule.
    guest: {
      rules: [
        "iifname @blocked counter drop",
        "iifname . ether saddr != @macs counter drop",
        "ether type vlan counter drop",
        `ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 update @floods { iifname ${floodLimit} } counter drop`,
        // A guest that plays DHCP server would hand out its own idea of the LAN.
        "ether type ip udp sport 67 counter drop",
        "ether type ip iifname . ether saddr . ip saddr @addresses accept",
        "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp dport 67 accept",
        "ether type arp arp htype 1 arp ptype ip iifname . arp saddr ether . arp saddr ip @addresses accept",
        // Asking whether an address is taken (RFC 5227) names no sender address.
        "ether type arp arp htype 1 arp ptype ip arp operation request arp saddr ip 0.0.0.0 accept",
        "counter drop",
      ],
    },
    arrive: {
      hook: { type: "filter", at: "prerouting", priority: -300 },
      rules: ["iifname @taps jump guest", 'iifname "dvt*" counter drop'],
    },
    // Every host answers its own machines' DHCP and DNS, from the same address: the services never meet.
    cross: {
      hook: { type: "filter", at: "forward", priority: 0 },
      rules: [
        'iifname "dve*" oifname "dvx*" counter drop',
        'iifname "dvx*" oifname "dve*" counter drop',
        'oifname "dvx*" ether type ip udp dport 67 counter drop',
      ],
    },
    leave: {
      hook: { type: "filter", at: "postrouting", priority: 300 },
      rules: ["oifname @blocked counter drop"],
    },
    host: {
      hook: { type: "filter", at: "input", priority: 0 },
      rules: [
        'iifname "dvt*" counter drop',
        'iifname "dvx*" counter drop',
        'iifname "dve*" counter drop',
        'iifname "dvg*" counter drop',
      ],
    },
  },
};

/** The whole table in one transaction, replacing what was there. */
export function filterTableText(wish: HostNetworkConfig): string[] {
  return tableText(filters, wishedElements(wish));
}

export function filterProbeText(table: string): string[] {
  return probeText(filters, table);
}

/** `expectedRules` is `ObservedFilters.rules` of a table that was just made on this host. */
export function diffFilters(
  wish: HostNetworkConfig,
  observed: ObservedFilters | undefined,
  expectedRules: string,
  changes: Changes,
): void {
  const elements = wish.bridges.length === 0 ? undefined : wishedElements(wish);
  diffTable(filters, { elements, observed, expectedRules, changes });
}

function wishedElements(wish: HostNetworkConfig): NftElements {
  const ports = wish.bridges.flatMap((bridge) => bridge.ports);
  return new Map<string, ReadonlySet<string>>([
    ["taps", new Set(ports.map((port) => port.tap))],
    ["blocked", new Set(ports.filter((port) => port.blocked).map((port) => port.tap))],
    ["macs", new Set(ports.map((port) => `${port.tap} . ${port.mac}`))],
    ["addresses", new Set(ports.map((port) => `${port.tap} . ${port.mac} . ${port.address}`))],
  ]);
}
