/**
 * The nft table that keeps guests from pretending: a frame leaves a tap only with the tap's MAC, as IPv4 with its
 * address, or as ARP that speaks for itself; a blocked port neither sends nor receives; a tap that no wish names is
 * shut (fail closed); nothing of a guest reaches the host's own stack. Rules never change, only the elements of sets.
 * Bridge family, no connection tracking. Pure: text out; the comparison needs the host's own spelling of the rules,
 * because every nft version prints them a little differently (shell/read-network asks for it once).
 */

import type { Changes } from "#network/changes";
import { filterTable } from "#network/names";
import type { ObservedFilters } from "#network/observed";
import type { HostNetworkConfig } from "#ports/host-network";

/** Hooks of our chains, as nft's JSON tells them. Before everything of other tables on the way in, after it on the way out. */
const filterHooks = {
  arrive: { hook: "prerouting", prio: -300 },
  leave: { hook: "postrouting", prio: 300 },
  host: { hook: "input", prio: 0 },
} as const;

const sets = {
  taps: "iifname",
  blocked: "iifname",
  macs: "iifname . ether saddr",
  addresses: "iifname . ether saddr . ip saddr",
} as const;
type SetName = keyof typeof sets;

/** Rules by chain. VLAN tags, IPv6 and everything else that a network does not carry ends at the last rule of `guest`. */
const rules = {
  guest: [
    "iifname @blocked counter drop",
    "iifname . ether saddr != @macs counter drop",
    "ether type vlan counter drop",
    // A guest that plays DHCP server would hand out its own idea of the LAN.
    "ether type ip udp sport 67 counter drop",
    "ether type ip iifname . ether saddr . ip saddr @addresses accept",
    "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp dport 67 accept",
    "ether type arp arp htype 1 arp ptype ip iifname . arp saddr ether . arp saddr ip @addresses accept",
    // Asking whether an address is taken (RFC 5227) names no sender address.
    "ether type arp arp htype 1 arp ptype ip arp operation request arp saddr ip 0.0.0.0 accept",
    "counter drop",
  ],
  arrive: ["iifname @taps jump guest", 'iifname "dvt*" counter drop'],
  leave: ["oifname @blocked counter drop"],
  host: ['iifname "dvt*" counter drop', 'iifname "dvx*" counter drop'],
} as const;
type ChainName = keyof typeof rules;

/** The whole table in one transaction, replacing what was there. */
export function filterTableText(wish: HostNetworkConfig): string[] {
  const elements = wishedElements(wish);
  return [
    `table bridge ${filterTable}`,
    `delete table bridge ${filterTable}`,
    ...tableText({ table: filterTable, elements, hooked: true }),
  ];
}

/** The same sets and rules without hooks under another name: harmless, and printed back in the host's own spelling. */
export function filterProbeText(table: string): string[] {
  return tableText({ table, elements: new Map(), hooked: false });
}

/** `expectedRules` is `ObservedFilters.rules` of a table that was just made on this host. */
export function diffFilters(
  wish: HostNetworkConfig,
  observed: ObservedFilters | undefined,
  expectedRules: string,
  changes: Changes,
): void {
  const object = `nft table bridge ${filterTable}`;
  if (wish.bridges.length === 0) {
    if (observed !== undefined) {
      changes.note(
        { object, problem: "surplus", detail: "this host carries no network" },
        { nft: [`delete table bridge ${filterTable}`] },
      );
    }
    return;
  }
  if (observed === undefined) {
    changes.note(
      { object, problem: "missing", detail: "no filter keeps guests from pretending" },
      { nft: filterTableText(wish) },
    );
    return;
  }
  if (observed.rules !== expectedRules || observed.chains !== expectedChains) {
    changes.note(
      { object, problem: "different", detail: "its rules are not ours" },
      { nft: filterTableText(wish) },
    );
    return;
  }
  for (const [set, wished] of wishedElements(wish)) {
    const there = observed.elements.get(set) ?? new Set();
    for (const element of there) {
      if (wished.has(element)) continue;
      changes.note(
        { object: `${object} set ${set}`, problem: "surplus", detail: element },
        { nft: [`delete element bridge ${filterTable} ${set} { ${spell(element)} }`] },
      );
    }
    for (const element of wished) {
      if (there.has(element)) continue;
      changes.note(
        { object: `${object} set ${set}`, problem: "missing", detail: element },
        { nft: [`add element bridge ${filterTable} ${set} { ${spell(element)} }`] },
      );
    }
  }
}

const expectedChains = JSON.stringify(
  Object.keys(rules).map((chain) => {
    if (chain === "guest") return [chain, undefined, undefined, undefined];
    const { hook, prio } = filterHooks[chain as keyof typeof filterHooks];
    return [chain, hook, prio, "accept"];
  }),
);

function wishedElements(wish: HostNetworkConfig): ReadonlyMap<SetName, ReadonlySet<string>> {
  const ports = wish.bridges.flatMap((bridge) => bridge.ports);
  return new Map<SetName, ReadonlySet<string>>([
    ["taps", new Set(ports.map((port) => port.tap))],
    ["blocked", new Set(ports.filter((port) => port.blocked).map((port) => port.tap))],
    ["macs", new Set(ports.map((port) => `${port.tap} . ${port.mac}`))],
    ["addresses", new Set(ports.map((port) => `${port.tap} . ${port.mac} . ${port.address}`))],
  ]);
}

function tableText(options: {
  readonly table: string;
  readonly elements: ReadonlyMap<SetName, ReadonlySet<string>>;
  readonly hooked: boolean;
}): string[] {
  const lines = [`table bridge ${options.table} {`];
  for (const [name, type] of Object.entries(sets)) {
    const elements = [...(options.elements.get(name as SetName) ?? [])];
    const list = elements.length === 0 ? "" : ` elements = { ${elements.map(spell).join(", ")} }`;
    lines.push(`set ${name} { typeof ${type};${list}`, "}");
  }
  for (const [chain, chainRules] of Object.entries(rules)) {
    lines.push(`chain ${chain} {`);
    const hook = options.hooked ? hookOf(chain as ChainName) : undefined;
    if (hook !== undefined) lines.push(hook);
    lines.push(...chainRules, "}");
  }
  return [...lines, "}"];
}

function hookOf(chain: ChainName): string | undefined {
  if (chain === "guest") return undefined;
  const { hook, prio } = filterHooks[chain];
  return `type filter hook ${hook} priority ${prio}; policy accept;`;
}

/** Interface names are strings to nft. */
function spell(element: string): string {
  const [tap, ...rest] = element.split(" . ");
  return [`"${tap}"`, ...rest].join(" . ");
}
