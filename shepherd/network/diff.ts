/**
 * What differs between a wished network config and what a host says, with the commands that mend it: one batch for
 * each of nft, ip, bridge and tc. The same function is the audit (differences) and the apply (commands).
 * Pure. Touches only objects whose names are exactly of our shape; a tap is libvirt's to make and to remove, so a port
 * without a tap is no difference, and a tap without a port is shut by the filters.
 */
import { Fault } from "#model/fault";
import { isIpv4 } from "#network/addresses";
import { type Changes, createChanges, type NetworkBatch } from "#network/changes";
import { diffFilters } from "#network/filters";
import { diffExits, diffGateways, gatewayIsNew } from "#network/gateway";
import { bridgeMac, shaperName } from "#network/names";
import type {
  Classifier,
  ObservedForwarding,
  ObservedLink,
  ObservedNetwork,
} from "#network/observed";
import { diffRates, removeShaping } from "#network/rates";
import { diffServices, servicesAreNew } from "#network/services";
import { diffTunnels } from "#network/tunnels";
import { diffUnderlay } from "#network/underlay";
import type { BridgeConfig, HostNetworkConfig, NetworkDifference } from "#ports/host-network";

/** IANA's number for VXLAN; Linux's own default is older and another. */
export const vxlanPort = 4789;
const broadcastMac = "00:00:00:00:00:00";
/** Bridges, VXLAN and ifb devices, and cards of services, of ours; taps are told apart because they are not ours to remove. */
const ourDevice = /^dv[bxiego][0-9a-f]{12}$/;
const ourKinds: Readonly<Record<string, string>> = {
  b: "bridge",
  x: "vxlan",
  i: "ifb",
  e: "veth",
  g: "veth",
  o: "veth",
};

export interface NetworkDiff {
  readonly differences: readonly NetworkDifference[];
  readonly batch: NetworkBatch;
}

/** How a host prints the rules of our tables (`ObservedFilters.rules`), and what its kernel has of what may differ. */
export interface ExpectedRules {
  /** Absent: u32, which every kernel has that can shape at all. */
  readonly classifier?: Classifier | undefined;
  readonly filters: string;
  readonly underlay: string;
  readonly exits: string;
}

/** Fault `network.config_invalid`. */
export function diffNetwork(
  wish: HostNetworkConfig,
  observed: ObservedNetwork,
  expectedRules: ExpectedRules,
): NetworkDiff {
  checkConfig(wish);
  const changes = createChanges();
  // Our devices carry guests' frames and take no address of their own; a kernel without IPv6 knows no such setting.
  const quiet = observed.hasIpv6 ? "addrgenmode none" : "";
  diffFilters(wish, observed.filters, expectedRules.filters, changes);
  diffUnderlay(wish, observed.underlay, expectedRules.underlay, changes);
  diffTunnels(wish.tunnels, observed, changes);
  diffServices(wish.bridges, observed, changes);
  diffExits(wish, observed.exits, expectedRules.exits, changes);
  diffGateways(wish.bridges, observed, changes);
  removeSurplusLinks(wish, observed, changes);
  const wishedTaps = new Set(
    wish.bridges.flatMap((bridge) => bridge.ports.map((port) => port.tap)),
  );
  for (const [device, shaping] of observed.shaping) {
    if (device.startsWith("dvt") && !wishedTaps.has(device))
      removeShaping(device, shaping, changes);
  }
  for (const bridge of wish.bridges) {
    const fresh = diffLinks(bridge, observed, changes, quiet);
    diffTunnelForwarding(bridge, fresh.vxlan ? [] : observed.forwarding, changes);
    diffBridgeForwarding(bridge, observed, fresh, changes);
    // The kernel forgets a bridge's neighbour entries whenever the bridge's address is set.
    const forgets = observed.links.get(bridge.bridge)?.mac !== bridgeMac(bridge.bridge);
    diffNeighbours(bridge, fresh.bridge || forgets ? [] : observed.neighbours, changes);
    for (const port of bridge.ports) {
      const ifb = shaperName(port.tap);
      diffRates(
        port,
        bridge.mtu,
        {
          tapLink: observed.links.get(port.tap),
          tap: observed.shaping.get(port.tap),
          ifb: observed.shaping.get(ifb),
          ifbLink: observed.links.get(ifb),
          classifier: expectedRules.classifier ?? "u32",
        },
        changes,
      );
    }
  }
  return changes.result();
}

/** Cards of our own on a bridge, beside machines: each with who answers behind it. */
interface Card {
  readonly device: string;
  readonly mac: string;
  readonly address: string;
}

function cardsOf(bridge: BridgeConfig): readonly Card[] {
  return [bridge.services, bridge.gateway].filter((card) => card !== undefined);
}

function isNewCard(bridge: BridgeConfig, card: Card, observed: ObservedNetwork): boolean {
  if (bridge.gateway !== undefined && card.device === bridge.gateway.device)
    return gatewayIsNew(bridge.gateway, observed);
  return bridge.services !== undefined && servicesAreNew(bridge.services, observed);
}

/** Devices that this pass makes anew: what was observed of them no longer counts. */
interface Fresh {
  readonly bridge: boolean;
  readonly vxlan: boolean;
}

function removeSurplusLinks(
  wish: HostNetworkConfig,
  observed: ObservedNetwork,
  changes: Changes,
): void {
  const wished = new Set(
    wish.bridges.flatMap((bridge) => [
      bridge.bridge,
      bridge.vxlan,
      ...cardsOf(bridge).map((card) => card.device),
      ...(bridge.gateway?.wayOut === undefined ? [] : [bridge.gateway.wayOut.device]),
      ...bridge.ports.filter((port) => port.rates.length > 0).map((port) => shaperName(port.tap)),
    ]),
  );
  const bridges = new Set(wish.bridges.map((bridge) => bridge.bridge));
  const ports = new Set(
    wish.bridges.flatMap((bridge) => [
      bridge.vxlan,
      ...cardsOf(bridge).map((card) => card.device),
      ...bridge.ports.map((port) => port.tap),
    ]),
  );
  for (const link of observed.links.values()) {
    const ours = ourDevice.test(link.name) && link.kind === ourKinds[link.name.charAt(2)];
    if (ours && !wished.has(link.name)) {
      changes.removeLink(link.name, {
        object: `${link.kind} ${link.name}`,
        problem: "surplus",
        detail: link.alias === "" ? "no network wishes it" : link.alias,
      });
    } else if (
      link.master !== undefined &&
      bridges.has(link.master) &&
      !ports.has(link.name) &&
      !/^dvt[0-9a-f]{12}$/.test(link.name)
    ) {
      // A tap of a machine that is leaving stays where libvirt put it; anything else would hear the LAN.
      changes.note(
        {
          object: `bridge ${link.master}`,
          problem: "surplus",
          detail: `${link.name} is a port of it`,
        },
        { ip: [`link set dev ${link.name} nomaster`] },
      );
    }
  }
}

function diffLinks(
  bridge: BridgeConfig,
  observed: ObservedNetwork,
  changes: Changes,
  quiet: string,
): Fresh {
  const bridgeIsNew = diffBridge(bridge, observed.links.get(bridge.bridge), changes, quiet);
  const vxlanIsNew = diffVxlan({
    config: bridge,
    link: observed.links.get(bridge.vxlan),
    bridgeIsNew,
    quiet,
    changes,
  });
  for (const card of cardsOf(bridge)) {
    const device = observed.links.get(card.device);
    if (device === undefined || isNewCard(bridge, card, observed)) {
      changes.addIp(
        `link set dev ${card.device} mtu ${bridge.mtu} ${quiet} master ${bridge.bridge} up`,
        `link set dev ${card.device} type bridge_slave learning off flood off neigh_suppress off`,
      );
    } else {
      diffPort({ device, bridge, bridgeIsNew, quiet, neighbourSuppression: false, changes });
    }
  }
  for (const port of bridge.ports) {
    const tap = observed.links.get(port.tap);
    if (tap !== undefined) {
      diffPort({ device: tap, bridge, bridgeIsNew, quiet, neighbourSuppression: false, changes });
    }
  }
  return { bridge: bridgeIsNew, vxlan: vxlanIsNew };
}

function diffBridge(
  config: BridgeConfig,
  link: ObservedLink | undefined,
  changes: Changes,
  quiet: string,
): boolean {
  const name = config.bridge;
  const object = `bridge ${name}`;
  const alias = `drover network ${config.networkId}`;
  const mac = bridgeMac(name);
  const settle = `link set dev ${name} mtu ${config.mtu} ${quiet} alias "${alias}" up`;
  if (link?.bridge === undefined) {
    changes.note(
      { object, problem: "missing", detail: alias },
      {
        ip: [
          ...(link === undefined ? [] : [`link delete dev ${name}`]),
          `link add name ${name} address ${mac} type bridge stp_state 0 mcast_snooping 0`,
          settle,
        ],
      },
    );
    return true;
  }
  const wrong = [
    link.up ? "" : "it is down",
    link.mtu === config.mtu ? "" : `its MTU is ${link.mtu}, not ${config.mtu}`,
    link.alias === alias ? "" : `its alias is not "${alias}"`,
    link.withoutAddresses ? "" : "it takes an IPv6 address of its own",
  ].filter((problem) => problem !== "");
  if (wrong.length > 0) {
    changes.note({ object, problem: "different", detail: wrong.join(", ") }, { ip: [settle] });
  }
  if (link.mac !== mac) {
    changes.note(
      { object, problem: "different", detail: `its address is ${link.mac}, not ${mac}` },
      { ip: [`link set dev ${name} address ${mac}`] },
    );
  }
  if (link.bridge.multicastSnooping || link.bridge.spanningTree) {
    changes.note(
      { object, problem: "different", detail: "spanning tree or multicast snooping is on" },
      { ip: [`link set dev ${name} type bridge stp_state 0 mcast_snooping 0`] },
    );
  }
  return false;
}

function diffVxlan(request: {
  readonly config: BridgeConfig;
  readonly link: ObservedLink | undefined;
  readonly bridgeIsNew: boolean;
  readonly quiet: string;
  readonly changes: Changes;
}): boolean {
  const { config, link, bridgeIsNew, quiet, changes } = request;
  const name = config.vxlan;
  const object = `vxlan ${name}`;
  const local = config.localAddress;
  const there = link?.vxlan;
  const same =
    link !== undefined &&
    there !== undefined &&
    there.vni === config.vni &&
    there.localAddress === (config.localAddress ?? "") &&
    there.port === vxlanPort &&
    !there.learning;
  if (!same) {
    // None of these can be changed on a living device.
    if (link !== undefined) {
      changes.removeLink(name, {
        object,
        problem: "different",
        detail: `VNI ${there?.vni ?? "none"} from ${there?.localAddress ?? "nowhere"}`,
      });
    }
    changes.note(
      { object, problem: "missing", detail: `VNI ${config.vni} from ${local ?? "here"}` },
      {
        ip: [
          `link add name ${name} mtu ${config.mtu} type vxlan id ${config.vni} ${local === undefined ? "" : `local ${local} `}dstport ${vxlanPort} nolearning`,
          `link set dev ${name} ${quiet} master ${config.bridge}`,
          `link set dev ${name} type bridge_slave learning off flood off neigh_suppress on`,
          `link set dev ${name} up`,
        ],
      },
    );
    return true;
  }
  diffPort({
    device: link,
    bridge: config,
    bridgeIsNew,
    quiet,
    neighbourSuppression: true,
    changes,
  });
  return false;
}

/** Unicast goes where an entry says or nowhere: ports neither learn nor are flooded. Broadcast and multicast pass. */
function diffPort(request: {
  readonly device: ObservedLink;
  readonly bridge: BridgeConfig;
  readonly bridgeIsNew: boolean;
  readonly quiet: string;
  readonly neighbourSuppression: boolean;
  readonly changes: Changes;
}): void {
  const { device, bridge, bridgeIsNew, quiet, neighbourSuppression, changes } = request;
  const object = `port ${device.name}`;
  const attached = !bridgeIsNew && device.master === bridge.bridge;
  if (!attached) {
    changes.note(
      { object, problem: "different", detail: `it is no port of ${bridge.bridge}` },
      { ip: [`link set dev ${device.name} master ${bridge.bridge}`] },
    );
  }
  const wrong = [
    device.up ? "" : "it is down",
    device.mtu === bridge.mtu ? "" : `its MTU is ${device.mtu}, not ${bridge.mtu}`,
    device.withoutAddresses ? "" : "it takes an IPv6 address of its own",
  ].filter((problem) => problem !== "");
  if (wrong.length > 0) {
    changes.note(
      { object, problem: "different", detail: wrong.join(", ") },
      { ip: [`link set dev ${device.name} mtu ${bridge.mtu} ${quiet} up`] },
    );
  }
  const settings = attached ? device.bridgePort : undefined;
  if (
    settings === undefined ||
    settings.learning ||
    settings.flood ||
    settings.neighbourSuppression !== neighbourSuppression
  ) {
    const suppress = neighbourSuppression ? "on" : "off";
    changes.note(
      { object, problem: "different", detail: "it learns, is flooded or answers ARP" },
      {
        ip: [
          `link set dev ${device.name} type bridge_slave learning off flood off neigh_suppress ${suppress}`,
        ],
      },
    );
  }
}

/** The VXLAN device's own table: where the host of each remote machine is, and to whom a broadcast goes. */
function diffTunnelForwarding(
  config: BridgeConfig,
  forwarding: readonly ObservedForwarding[],
  changes: Changes,
): void {
  const there = forwarding.filter(
    (entry) => entry.table === "tunnel" && entry.device === config.vxlan,
  );
  const object = `forwarding of ${config.vxlan}`;
  const peersThere = new Set(
    there.filter((entry) => entry.mac === broadcastMac).map((entry) => entry.address ?? ""),
  );
  for (const peer of peersThere) {
    if (config.peers.includes(peer)) continue;
    changes.note(
      { object, problem: "surplus", detail: `broadcasts to ${peer}` },
      { bridge: [`fdb del ${broadcastMac} dev ${config.vxlan} dst ${peer} self`] },
    );
  }
  for (const peer of config.peers) {
    if (peersThere.has(peer)) continue;
    changes.note(
      { object, problem: "missing", detail: `broadcasts to ${peer}` },
      { bridge: [`fdb append ${broadcastMac} dev ${config.vxlan} dst ${peer} self permanent`] },
    );
  }
  const machinesThere = new Map(
    there.filter((entry) => entry.mac !== broadcastMac).map((entry) => [entry.mac, entry]),
  );
  const remotes = new Set(config.remotes.map((remote) => remote.mac));
  for (const [mac, entry] of machinesThere) {
    if (remotes.has(mac)) continue;
    changes.note(
      { object, problem: "surplus", detail: `${mac} at ${entry.address ?? "nowhere"}` },
      { bridge: [`fdb del ${mac} dev ${config.vxlan} dst ${entry.address ?? ""} self`] },
    );
  }
  for (const remote of config.remotes) {
    const entry = machinesThere.get(remote.mac);
    if (entry?.address === remote.address && entry.fixed) continue;
    changes.note(
      {
        object,
        problem: entry === undefined ? "missing" : "different",
        detail: `${remote.mac} at ${remote.address}`,
      },
      {
        bridge: [
          `fdb replace ${remote.mac} dev ${config.vxlan} dst ${remote.address} self permanent`,
        ],
      },
    );
  }
}

/** The bridge's table: behind which of its ports each machine is. Without it, a stale entry swallows frames after a move. */
function diffBridgeForwarding(
  config: BridgeConfig,
  observed: ObservedNetwork,
  fresh: Fresh,
  changes: Changes,
): void {
  const wished = new Map(config.remotes.map((remote) => [remote.mac, config.vxlan]));
  for (const port of config.ports) {
    if (!port.blocked && observed.links.has(port.tap)) wished.set(port.mac, port.tap);
  }
  for (const card of cardsOf(config)) wished.set(card.mac, card.device);
  const devices = new Set([config.vxlan, ...config.ports.map((port) => port.tap)]);
  for (const link of observed.links.values()) {
    if (link.master === config.bridge) devices.add(link.name);
  }
  const object = `forwarding of ${config.bridge}`;
  const there = new Map<string, ObservedForwarding>();
  for (const entry of fresh.bridge ? [] : observed.forwarding) {
    if (entry.table !== "bridge" || !devices.has(entry.device)) continue;
    if (fresh.vxlan && entry.device === config.vxlan) continue;
    if (cardsOf(config).some((card) => card.device === entry.device)) {
      const card = cardsOf(config).find((candidate) => candidate.device === entry.device);
      if (card !== undefined && isNewCard(config, card, observed)) continue;
    }
    // A port that has to be attached first has no entries then.
    if (observed.links.get(entry.device)?.master !== config.bridge) continue;
    there.set(entry.mac, entry);
  }
  for (const [mac, entry] of there) {
    if (wished.has(mac)) continue;
    changes.note(
      { object, problem: "surplus", detail: `${mac} behind ${entry.device}` },
      { bridge: [`fdb del ${mac} dev ${entry.device} master`] },
    );
  }
  for (const [mac, device] of wished) {
    const entry = there.get(mac);
    if (entry?.device === device && entry.fixed) continue;
    changes.note(
      {
        object,
        problem: entry === undefined ? "missing" : "different",
        detail: `${mac} behind ${device}`,
      },
      { bridge: [`fdb replace ${mac} dev ${device} master static`] },
    );
  }
}

/** With these the bridge answers ARP for a remote machine itself, and a question about any known one crosses no site. */
function diffNeighbours(
  config: BridgeConfig,
  neighbours: ObservedNetwork["neighbours"],
  changes: Changes,
): void {
  const wished = new Map([
    ...config.remotes.map((remote) => [remote.guestAddress, remote.mac] as const),
    ...config.ports.map((port) => [port.address, port.mac] as const),
    ...cardsOf(config).map((card) => [card.address, card.mac] as const),
  ]);
  const object = `ARP answers of ${config.bridge}`;
  const there = new Map(
    neighbours
      .filter((entry) => entry.bridge === config.bridge)
      .map((entry) => [entry.address, entry.mac]),
  );
  for (const [address, mac] of there) {
    if (wished.has(address)) continue;
    changes.note(
      { object, problem: "surplus", detail: `${address} is ${mac}` },
      { ip: [`neigh delete ${address} dev ${config.bridge}`] },
    );
  }
  for (const [address, mac] of wished) {
    if (there.get(address) === mac) continue;
    changes.note(
      {
        object,
        problem: there.has(address) ? "different" : "missing",
        detail: `${address} is ${mac}`,
      },
      { ip: [`neigh replace ${address} lladdr ${mac} dev ${config.bridge} nud permanent`] },
    );
  }
}

/** Nothing that is not exactly of its shape reaches a command's text. */
function checkConfig(wish: HostNetworkConfig): void {
  const demand = (fine: boolean, what: string, value: unknown): void => {
    if (!fine) {
      throw new Fault("network.config_invalid", {
        host: wish.hostId,
        problem: `${what} is ${JSON.stringify(value)}`,
      });
    }
  };
  const isMac = (text: string): boolean => /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(text);
  const isWithin = (value: number, min: number, max: number): boolean =>
    Number.isInteger(value) && value >= min && value <= max;
  for (const address of wish.tunnels?.clearPeers ?? [])
    demand(isIpv4(address), "a host's address", address);
  for (const tunnel of wish.tunnels?.devices ?? []) {
    const isKey = (text: string): boolean => /^[A-Za-z0-9+/]{43}=$/.test(text);
    demand(/^dvw[0-9a-f]{11}[01]$/.test(tunnel.device), "a tunnel's name", tunnel.device);
    demand(isIpv4(tunnel.address), "an address in the mesh", tunnel.address);
    demand(isWithin(tunnel.port, 1, 65_535), "a tunnel's port", tunnel.port);
    demand(isWithin(tunnel.mtu, 576, 65_535), "a tunnel's MTU", tunnel.mtu);
    demand(isKey(tunnel.publicKey), "a public key", tunnel.publicKey);
    for (const peer of tunnel.peers) {
      const [address = "", port] = peer.endpoint.split(":");
      demand(isKey(peer.publicKey), "a public key", peer.publicKey);
      demand(isIpv4(peer.address), "an address in the mesh", peer.address);
      demand(isIpv4(address) && /^\d{1,5}$/.test(port ?? ""), "an endpoint", peer.endpoint);
    }
  }
  for (const bridge of wish.bridges) {
    demand(/^[A-Za-z0-9._:-]{1,128}$/.test(bridge.networkId), "a network id", bridge.networkId);
    demand(/^dvb[0-9a-f]{12}$/.test(bridge.bridge), "a bridge's name", bridge.bridge);
    demand(/^dvx[0-9a-f]{12}$/.test(bridge.vxlan), "a VXLAN device's name", bridge.vxlan);
    demand(isWithin(bridge.vni, 1, 0xff_ff_fe), "a VNI", bridge.vni);
    // 576 is what every IPv4 host must accept; 65,485 is the largest tunnel payload.
    demand(isWithin(bridge.mtu, 576, 65_485), "an MTU", bridge.mtu);
    demand(isIpv4(bridge.localAddress ?? "0.0.0.0"), "a tunnel address", bridge.localAddress);
    if (bridge.services !== undefined) {
      const { namespace, device, mac, address, domain, router, machines } = bridge.services;
      demand(/^dvn[0-9a-f]{12}$/.test(namespace), "a namespace", namespace);
      demand(/^dve[0-9a-f]{12}$/.test(device), "a card's name", device);
      demand(isMac(mac), "a MAC", mac);
      demand(isIpv4(address), "the services' address", address);
      demand(/^[a-z0-9.-]{1,253}$/.test(domain), "a domain", domain);
      demand(isIpv4(router ?? "0.0.0.0"), "a router", router);
      for (const machine of machines) {
        demand(isMac(machine.mac), "a MAC", machine.mac);
        demand(isIpv4(machine.address), "a machine's address", machine.address);
        demand(/^[a-z0-9][a-z0-9-]{0,62}$/.test(machine.name), "a machine's name", machine.name);
      }
    }
    if (bridge.gateway !== undefined) {
      const { namespace, device, mac, address, wayOut } = bridge.gateway;
      demand(/^dvr[0-9a-f]{12}$/.test(namespace), "a namespace", namespace);
      demand(/^dvg[0-9a-f]{12}$/.test(device), "a card's name", device);
      demand(isMac(mac), "a MAC", mac);
      demand(isIpv4(address), "the gateway's address", address);
      if (wayOut !== undefined) {
        demand(/^dvo[0-9a-f]{12}$/.test(wayOut.device), "a wire's name", wayOut.device);
        demand(isIpv4(wayOut.hostAddress), "a wire's address", wayOut.hostAddress);
        demand(isIpv4(wayOut.insideAddress), "a wire's address", wayOut.insideAddress);
      }
    }
    for (const peer of bridge.peers) demand(isIpv4(peer), "a peer's tunnel address", peer);
    for (const remote of bridge.remotes) {
      demand(isMac(remote.mac), "a MAC", remote.mac);
      demand(isIpv4(remote.address), "a remote machine's tunnel address", remote.address);
      demand(isIpv4(remote.guestAddress), "a machine's address", remote.guestAddress);
    }
    for (const port of bridge.ports) {
      demand(/^dvt[0-9a-f]{12}$/.test(port.tap), "a tap's name", port.tap);
      demand(isMac(port.mac), "a MAC", port.mac);
      demand(isIpv4(port.address), "a machine's address", port.address);
      for (const rate of port.rates) {
        demand(isMac(rate.peerMac ?? broadcastMac), "a peer's MAC", rate.peerMac);
        demand(isWithin(rate.rateMbps, 1, 100_000), "a rate in Mbit/s", rate.rateMbps);
        demand(isWithin(rate.burstKib ?? 64, 1, 65_536), "a burst in KiB", rate.burstKib);
      }
    }
  }
}
