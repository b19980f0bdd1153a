/**
 * The encrypted mesh between sites: one WireGuard device a host, with a peer for each host of another site, whatever
 * environments there are. Derived from journaled ends (public keys, addresses inside the mesh) and compared with what a
 * host says. Two devices stand side by side while keys are rotated: both receive, one sends. Pure.
 */
import { createHash } from "node:crypto";
import type { HostRecord, TunnelEnd } from "#model/site";
import type { HostId } from "#model/units";
import type { Changes } from "#network/changes";
import type { ObservedNetwork, ObservedTunnel } from "#network/observed";
import type { TunnelConfig, TunnelsConfig } from "#ports/host-network";

/** What WireGuard takes of a packet: 40 bytes of IPv6 (an underlay may be either), 8 of UDP, 32 of its own. */
export const wireguardOverheadBytes = 80;
/** VXLAN over IPv4: 20 + 8 + 8 and the inner Ethernet header. */
export const vxlanOverheadBytes = 50;
/** Where private keys live on a host: in memory, gone with the host's power. */
export const keyDirectory = "/run/drover";

/** The device of a generation of keys; two neighbouring generations differ in the last character. */
export function tunnelName(hostId: HostId, generation: number): string {
  const digest = createHash("sha256").update(hostId).digest("hex").slice(0, 11);
  return `dvw${digest}${generation % 2}`;
}

export function keyFile(device: string): string {
  return `${keyDirectory}/${device}.key`;
}

/** True when what these two hosts say to each other is encrypted. Hosts of one site share its owner's wires. */
export function isEncrypted(from: HostRecord, to: HostRecord): boolean {
  if (from.siteId === to.siteId) return false;
  if (from.tunnel === undefined || to.tunnel === undefined) return false;
  return !from.tunnel.clearSites.includes(to.siteId) && !to.tunnel.clearSites.includes(from.siteId);
}

/**
 * Where a host's LAN tunnels end, seen from another host: inside the mesh, or at its address on the underlay. Undefined:
 * it must be met encrypted and its key is not known yet, so it is not met at all.
 */
export function overlayAddress(
  from: HostRecord,
  to: HostRecord,
  ends: readonly TunnelEnd[],
): string | undefined {
  if (!isEncrypted(from, to)) return to.migrationAddress;
  return ends.find((end) => end.hostId === to.id)?.address;
}

/** A host's tunnels to all hosts of other sites; undefined where the host has none by configuration. */
export function deriveTunnels(
  host: HostRecord,
  of: {
    readonly hosts: readonly HostRecord[];
    readonly ends: readonly TunnelEnd[];
    /** Largest MTU of a LAN here. */
    readonly largestMtu: number;
  },
): TunnelsConfig | undefined {
  const { hosts, ends } = of;
  const { tunnel } = host;
  if (tunnel === undefined) return undefined;
  const others = hosts.filter((other) => other.id !== host.id);
  const clearPeers = others
    .filter((other) => !isEncrypted(host, other))
    .map((other) => other.migrationAddress)
    .toSorted();
  const own = ends.find((end) => end.hostId === host.id);
  const devices = (own?.keys ?? []).map(({ generation, publicKey }): TunnelConfig => {
    const peers = others.flatMap((other) => {
      const end = ends.find((candidate) => candidate.hostId === other.id);
      const key = end?.keys.find((candidate) => candidate.generation === generation);
      if (end === undefined || key === undefined || !isEncrypted(host, other)) return [];
      const port = (other.tunnel?.port ?? tunnel.port) + (generation % 2);
      return [
        {
          publicKey: key.publicKey,
          endpoint: `${other.migrationAddress}:${port}`,
          address: end.address,
        },
      ];
    });
    return {
      device: tunnelName(host.id, generation),
      address: own?.address ?? "",
      port: tunnel.port + (generation % 2),
      mtu: Math.max(leastTunnelMtu, of.largestMtu + vxlanOverheadBytes),
      publicKey,
      sends: generation === own?.generation,
      peers: peers.toSorted((left, right) => (left.publicKey < right.publicKey ? -1 : 1)),
    };
  });
  return {
    clearPeers,
    // A host that meets everybody in the clear needs no device.
    devices: devices
      .filter(({ peers }) => peers.length > 0)
      .toSorted((left, right) => (left.device < right.device ? -1 : 1)),
  };
}

/** Devices first, then keys and peers, then who sends: in this order a packet always finds a way. */
export function diffTunnels(
  wish: TunnelsConfig | undefined,
  observed: ObservedNetwork,
  changes: Changes,
): void {
  const wished = wish?.devices ?? [];
  for (const name of observed.tunnels.keys()) {
    if (wished.some((tunnel) => tunnel.device === name)) continue;
    const detail = "no site is met through it";
    changes.removeLink(name, { object: `tunnel ${name}`, problem: "surplus", detail });
    // A host that carries no network for a while keeps its key: the others know it. One that was rotated away goes.
    if (wished.length > 0)
      changes.note(
        { object: `key ${keyFile(name)}`, problem: "surplus", detail: "of keys that were rotated" },
        { end: [`rm -f ${keyFile(name)}`] },
      );
  }
  for (const tunnel of wished) diffTunnel(tunnel, observed.tunnels.get(tunnel.device), changes);
}

function diffTunnel(
  tunnel: TunnelConfig,
  there: ObservedTunnel | undefined,
  changes: Changes,
): void {
  const { device } = tunnel;
  const object = `tunnel ${device}`;
  if (there === undefined) {
    changes.note(
      { object, problem: "missing", detail: `port ${tunnel.port}, ${tunnel.peers.length} peers` },
      { start: [createDevice(device)] },
    );
  }
  if (there?.publicKey !== tunnel.publicKey || there.port !== tunnel.port) {
    if (there !== undefined) {
      const detail = `its key or port is not the journaled one (${tunnel.port})`;
      changes.note({ object, problem: "different", detail });
    }
    changes.addStart(`wg set ${device} private-key ${keyFile(device)} listen-port ${tunnel.port}`);
  }
  diffPeers(tunnel, there, changes);
  if (there?.address !== tunnel.address || !there.up || there.mtu !== tunnel.mtu || there.strict) {
    if (there !== undefined)
      changes.note({ object, problem: "different", detail: "its address, MTU or state" });
    changes.addStart(
      // Answers come back through whichever device the other side sends with.
      `echo 2 >/proc/sys/net/ipv4/conf/${device}/rp_filter`,
      `ip address flush dev ${device}`,
      `ip address add ${tunnel.address}/32 dev ${device}`,
      `ip link set dev ${device} mtu ${tunnel.mtu} up`,
    );
  }
  if (!tunnel.sends) return;
  for (const { address } of tunnel.peers) {
    if (there?.routes.has(address) && there.address === tunnel.address && there.up) continue;
    changes.note(
      { object, problem: "missing", detail: `the way to ${address}` },
      { start: [`ip route replace ${address}/32 dev ${device} src ${tunnel.address}`] },
    );
  }
}

function diffPeers(
  tunnel: TunnelConfig,
  there: ObservedTunnel | undefined,
  changes: Changes,
): void {
  const { device } = tunnel;
  const peersThere = new Map(there?.peers.map((peer) => [peer.publicKey, peer]));
  for (const publicKey of peersThere.keys()) {
    if (tunnel.peers.some((peer) => peer.publicKey === publicKey)) continue;
    changes.note(
      { object: `tunnel ${device}`, problem: "surplus", detail: `peer ${publicKey}` },
      { start: [`wg set ${device} peer ${publicKey} remove`] },
    );
  }
  for (const peer of tunnel.peers) {
    const seen = peersThere.get(peer.publicKey);
    const allowed = `${peer.address}/32`;
    if (seen?.endpoint === peer.endpoint && seen.allowed === allowed) continue;
    changes.note(
      {
        object: `tunnel ${device}`,
        problem: seen === undefined ? "missing" : "different",
        detail: `peer ${peer.publicKey} at ${peer.endpoint}`,
      },
      {
        start: [
          `wg set ${device} peer ${peer.publicKey} allowed-ips ${allowed} endpoint ${peer.endpoint}`,
        ],
      },
    );
  }
}

/** What is left of 1500 bytes. LANs are smaller by VXLAN's share. */
const leastTunnelMtu = 1500 - wireguardOverheadBytes;

/** The kernel's WireGuard, else the one in user space, which then is a process of the host that ends with its device. */
function createDevice(device: string): string {
  return [
    `ip link add dev ${device} type wireguard 2>/dev/null || {`,
    `setsid wireguard-go -f ${device} >/dev/null 2>&1 </dev/null &`,
    `for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do`,
    `ip link show dev ${device} >/dev/null 2>&1 && wg show ${device} listen-port >/dev/null 2>&1 && break; sleep 0.1; done; }`,
  ].join(" ");
}
