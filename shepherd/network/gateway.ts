/**
 * The gateway of a LAN: a network namespace with the network's first address, at one host and nowhere else, whatever
 * moves: connections through it survive, because it is not what moves. With NAT it also leads out of its host, under the
 * host's address, by a small wire of its own; from there nothing leads to hosts of the fleet, to other LANs, or in.
 * Derived, compared and made like everything else. Pure.
 */
import { createHash } from "node:crypto";
import type { NetworkRecord } from "#model/objects";
import { gatewayAddress, parseCidr } from "#network/addresses";
import type { Changes } from "#network/changes";
import { firstVni } from "#network/names";
import { diffTable, type NftTable } from "#network/nft-table";
import type { ObservedFilters, ObservedNetwork } from "#network/observed";
import { servicesDirectory } from "#network/services";
import type { BridgeConfig, HostNetworkConfig, LanGateway } from "#ports/host-network";

/** Wires between gateways and their hosts: next to the mesh, in the range for networks of carriers. */
const wirePrefix = "100.126";
const addressesOfWire = 4;

/** Undefined: the network declares none. The same value for every host; who holds it stands in the network's record. */
export function gatewayOf(network: NetworkRecord): LanGateway | undefined {
  const { gateway, cidr } = network.spec;
  if (gateway === undefined || network.effective.gatewayHostId === undefined) return undefined;
  const digest = createHash("sha256").update(network.id).digest("hex").slice(0, 12);
  const first = ((network.effective.vni - firstVni) * addressesOfWire) % 65_536;
  const wire = (offset: number) =>
    `${wirePrefix}.${Math.floor((first + offset) / 256)}.${(first + offset) % 256}`;
  return {
    namespace: `dvr${digest}`,
    device: `dvg${digest}`,
    mac: `0a${digest.slice(2).replace(/../g, ":$&")}`,
    address: gatewayAddress(cidr),
    prefixLength: parseCidr(cidr).prefixLength,
    mtu: network.effective.mtu,
    wayOut: gateway.nat
      ? { device: `dvo${digest}`, hostAddress: wire(1), insideAddress: wire(2) }
      : undefined,
  };
}

/** What gateways may do at their host: out, and answers in. Only where one has a way out. */
export const exits: NftTable = {
  family: "ip",
  name: "drover_out",
  purpose: "gateways have no way out",
  sets: { fleet: { declaration: "type ipv4_addr" } },
  chains: {
    arrive: {
      hook: { type: "filter", at: "input", priority: 0 },
      rules: ['iifname "dvo*" ct state established,related accept', 'iifname "dvo*" counter drop'],
    },
    through: {
      hook: { type: "filter", at: "forward", priority: 0 },
      rules: [
        'iifname "dvo*" oifname "dv*" counter drop',
        'iifname "dvo*" ip daddr @fleet counter drop',
        'iifname "dvo*" ip daddr 100.126.0.0/15 counter drop',
        'oifname "dvo*" ct state established,related accept',
        'oifname "dvo*" counter drop',
      ],
    },
    leave: {
      hook: { type: "nat", at: "postrouting", priority: 100 },
      rules: [`ip saddr ${wirePrefix}.0.0/16 oifname != "dvo*" masquerade`],
    },
  },
};

export function diffExits(
  wish: HostNetworkConfig,
  observed: ObservedFilters | undefined,
  expectedRules: string,
  changes: Changes,
): void {
  const lead = wish.bridges.some((bridge) => bridge.gateway?.wayOut !== undefined);
  const elements = lead ? new Map([["fleet", new Set(wish.fleetAddresses ?? [])]]) : undefined;
  diffTable(exits, { elements, observed, expectedRules, changes });
}

export function diffGateways(
  bridges: readonly BridgeConfig[],
  observed: ObservedNetwork,
  changes: Changes,
): void {
  const wished = new Set(bridges.map((bridge) => bridge.gateway?.namespace));
  for (const namespace of observed.gateways.keys()) {
    if (wished.has(namespace)) continue;
    changes.note(
      { object: `gateway ${namespace}`, problem: "surplus", detail: "no network wishes it" },
      { end: [removeGateway(namespace)] },
    );
  }
  for (const { gateway } of bridges) {
    if (gateway === undefined || !gatewayIsNew(gateway, observed)) continue;
    const there = observed.gateways.has(gateway.namespace);
    changes.note(
      {
        object: `gateway ${gateway.namespace}`,
        problem: there ? "different" : "missing",
        detail: `${gateway.address}${gateway.wayOut === undefined ? "" : " with a way out"}`,
      },
      {
        start: [
          removeGateway(gateway.namespace),
          // cards whose namespace is only just going away
          ...[gateway.device, ...(gateway.wayOut === undefined ? [] : [gateway.wayOut.device])].map(
            (device) => `ip link delete dev ${device} 2>/dev/null || :`,
          ),
          ...make(gateway),
        ],
        end: sealGateway(gateway),
      },
    );
  }
}

export function gatewayIsNew(gateway: LanGateway, observed: ObservedNetwork): boolean {
  return (
    observed.gateways.get(gateway.namespace) !== digestOf(make(gateway)) ||
    observed.links.get(gateway.device)?.kind !== "veth" ||
    (gateway.wayOut !== undefined && observed.links.get(gateway.wayOut.device)?.kind !== "veth")
  );
}

function make(gateway: LanGateway): readonly string[] {
  const { namespace, device, mac, address, prefixLength, mtu, wayOut } = gateway;
  const lines = [
    `ip netns add ${namespace}`,
    `ip -n ${namespace} link set dev lo up`,
    `ip link add name ${device} mtu ${mtu} type veth peer name lan0 mtu ${mtu} address ${mac} netns ${namespace}`,
    `ip -n ${namespace} address add ${address}/${prefixLength} dev lan0`,
    `ip -n ${namespace} link set dev lan0 up`,
  ];
  if (wayOut !== undefined) {
    const inside = `nsenter --net=/run/netns/${namespace}`;
    lines.push(
      `ip link add name ${wayOut.device} type veth peer name out0 netns ${namespace}`,
      `ip address add ${wayOut.hostAddress}/30 dev ${wayOut.device}`,
      `ip link set dev ${wayOut.device} up`,
      `ip -n ${namespace} address add ${wayOut.insideAddress}/30 dev out0`,
      `ip -n ${namespace} link set dev out0 up`,
      `ip -n ${namespace} route add default via ${wayOut.hostAddress}`,
      `${inside} sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'`,
      `${inside} nft 'table ip drover { chain leave { type nat hook postrouting priority 100; oifname "out0" masquerade; }; chain through { type filter hook forward priority 0; iifname "out0" ct state established,related accept; iifname "out0" drop; }; }'`,
      "echo 1 >/proc/sys/net/ipv4/ip_forward",
    );
  }
  return lines;
}

/** Written last, so that a gateway that was made by half is made again. */
function sealGateway(gateway: LanGateway): readonly string[] {
  const folder = `${servicesDirectory}/${gateway.namespace}`;
  return [
    `mkdir -p -m 755 ${servicesDirectory}`,
    `mkdir -p -m 755 ${folder}`,
    `echo ${digestOf(make(gateway))} >${folder}/settings.digest`,
  ];
}

function removeGateway(namespace: string): string {
  return `ip netns delete ${namespace} 2>/dev/null || :; rm -rf ${servicesDirectory}/${namespace}`;
}

function digestOf(lines: readonly string[]): string {
  return createHash("sha256").update(lines.join("\n")).digest("hex").slice(0, 16);
}
