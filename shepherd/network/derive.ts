/**
 * All network state of a host as a pure function of journaled state: the same records give the same config, sorted.
 * Nothing is remembered between two derivations; a change of one machine changes a host's config only in that
 * machine's port, remote entry and rates, and in whether its host carries the network at all.
 * Knows no host's answer: network/diff compares.
 */
import { Fault } from "#model/fault";
import type { LinkRecord, MachineRecord, MachineState, NetworkRecord, Nic } from "#model/objects";
import type { HostRecord, TunnelEnd } from "#model/site";
import type { HostId, MachineId, NetworkId } from "#model/units";
import { gatewayOf } from "#network/gateway";
import { bridgeName, vxlanName } from "#network/names";
import { deriveServices } from "#network/services";
import { deriveTunnels, overlayAddress } from "#network/tunnels";
import type { BridgeConfig, HostNetworkConfig, PortConfig } from "#ports/host-network";

export interface NetworkState {
  readonly hosts: readonly HostRecord[];
  readonly networks: readonly NetworkRecord[];
  readonly machines: readonly MachineRecord[];
  readonly links: readonly LinkRecord[];
  /** Machines prepared at the destination of a move: a blocked port there until the machine's `hostId` says otherwise. */
  readonly incoming: readonly { readonly machineId: MachineId; readonly hostId: HostId }[];
  /** The mesh between sites, as far as it is known. */
  readonly tunnelEnds?: readonly TunnelEnd[] | undefined;
}

/** A machine has its port from before its start until it is known to be gone: `unknown` keeps it, fail-closed. */
const statesWithPort: ReadonlySet<MachineState> = new Set([
  "creating",
  "running",
  "moving",
  "unknown",
]);

/** What `hostId` shall look like. A host that carries no network gets an empty config. Fault `host.unknown`. */
export function derive(hostId: HostId, state: NetworkState): HostNetworkConfig {
  const host = hostOf(hostId, state);
  const attached = attachments(state.machines);
  const bridges = state.networks
    .map((network) => deriveBridge(host, network, attached.get(network.id) ?? [], state))
    .filter((bridge) => bridge !== undefined);
  const tunnels =
    bridges.length === 0
      ? undefined
      : deriveTunnels(host, {
          hosts: state.hosts,
          ends: state.tunnelEnds ?? [],
          largestMtu: Math.max(...bridges.map((bridge) => bridge.mtu)),
        });
  return {
    hostId,
    bridges: sortBy(bridges, (bridge) => bridge.bridge),
    ...(tunnels === undefined ? {} : { tunnels }),
    ...(bridges.some((bridge) => bridge.gateway?.wayOut !== undefined)
      ? { fleetAddresses: state.hosts.map((one) => one.migrationAddress).toSorted() }
      : {}),
  };
}

/** Hosts that carry the network, sorted by id: where a machine of it is, or is about to arrive. A change of it touches all of them. */
export function hostsOfNetwork(
  networkId: NetworkId,
  state: Pick<NetworkState, "machines" | "incoming"> & Partial<Pick<NetworkState, "networks">>,
): readonly HostId[] {
  return carriersOf(
    attachments(state.machines).get(networkId) ?? [],
    state.incoming,
    state.networks?.find((network) => network.id === networkId),
  );
}

interface Attachment {
  readonly machine: MachineRecord;
  readonly nic: Nic;
}

function deriveBridge(
  host: HostRecord,
  network: NetworkRecord,
  attached: readonly Attachment[],
  state: NetworkState,
): BridgeConfig | undefined {
  const carriers = carriersOf(attached, state.incoming, network);
  if (!carriers.includes(host.id)) return undefined;

  // A host that must be met encrypted and has told no key yet is not met: nothing goes in the clear meanwhile.
  const addressOf = (hostId: HostId) =>
    overlayAddress(host, hostOf(hostId, state), state.tunnelEnds ?? []);
  const ports: PortConfig[] = [];
  const remotes: BridgeConfig["remotes"][number][] = [];
  for (const { machine, nic } of attached) {
    const here = hasPort(machine) && machine.effective.hostId === host.id;
    const arrives = state.incoming.some(
      (arrival) => arrival.machineId === machine.id && arrival.hostId === host.id,
    );
    if (here || arrives) {
      ports.push({
        tap: nic.tap,
        mac: nic.mac,
        address: nic.address,
        blocked: !here,
        rates: deriveRates({ machine, network, attached, links: state.links }),
      });
    }
    // A machine that is still arriving is reached where it runs now, also from here.
    if (hasPort(machine) && !here) {
      const address = addressOf(machine.effective.hostId);
      if (address !== undefined) remotes.push({ mac: nic.mac, address, guestAddress: nic.address });
    }
  }
  const peers = carriers.filter((id) => id !== host.id).flatMap((id) => addressOf(id) ?? []);
  const services = deriveServices(network, attached);
  const gateway = gatewayOf(network);
  const gatewayIsHere = network.effective.gatewayHostId === host.id;
  if (gateway !== undefined && !gatewayIsHere) {
    const address = addressOf(network.effective.gatewayHostId ?? "");
    const { mac, address: guestAddress } = gateway;
    if (address !== undefined) remotes.push({ mac, address, guestAddress });
  }
  return {
    networkId: network.id,
    bridge: bridgeName(network.id),
    vxlan: vxlanName(network.id),
    vni: network.effective.vni,
    mtu: network.effective.mtu,
    localAddress: host.tunnel === undefined ? host.migrationAddress : undefined,
    peers: peers.toSorted(),
    remotes: sortBy(remotes, (remote) => remote.mac),
    ports: sortBy(ports, (port) => port.tap),
    ...(services === undefined ? {} : { services }),
    ...(gateway === undefined || !gatewayIsHere ? {} : { gateway }),
  };
}

/** The links of a machine on one network. Machines that share two networks have the link's full rate on each. */
function deriveRates(of: {
  readonly machine: MachineRecord;
  readonly network: NetworkRecord;
  readonly attached: readonly Attachment[];
  readonly links: readonly LinkRecord[];
}): PortConfig["rates"] {
  const { machine, network, attached, links } = of;
  const rates: PortConfig["rates"][number][] = [];
  for (const link of links) {
    if (link.spec.environmentId !== machine.spec.environmentId) continue;
    if (!link.spec.machines.includes(machine.spec.name)) continue;
    const { latency, burstKib } = link.spec;
    const promise = {
      rateMbps: link.effective.rateMbps,
      ...(latency === undefined ? {} : { latency }),
      ...(burstKib === undefined ? {} : { burstKib }),
    };
    if (link.spec.network !== undefined) {
      if (link.spec.network === network.spec.name) rates.push(promise);
      continue;
    }
    const peerName = link.spec.machines.find((name) => name !== machine.spec.name);
    for (const peer of attached) {
      if (peer.machine.spec.name !== peerName || peer.machine.id === machine.id) continue;
      rates.push({ peerMac: peer.nic.mac, ...promise });
    }
  }
  return sortBy(rates, (rate) => rate.peerMac ?? "");
}

/**
 * NICs by network. A machine of another environment never stands in it: its networks are its environment's. One that has
 * no host yet, or is being destroyed, stands in none: when its record goes nothing changes that a host would have to be told.
 */
function attachments(
  machines: readonly MachineRecord[],
): ReadonlyMap<NetworkId, readonly Attachment[]> {
  const byNetwork = new Map<NetworkId, Attachment[]>();
  for (const machine of machines) {
    const { hostId, state } = machine.effective;
    if (hostId === "" || state === "destroying") continue;
    for (const nic of machine.effective.nics) {
      const attached = byNetwork.get(nic.networkId);
      if (attached === undefined) byNetwork.set(nic.networkId, [{ machine, nic }]);
      else attached.push({ machine, nic });
    }
  }
  return byNetwork;
}

function carriersOf(
  attached: readonly Attachment[],
  incoming: NetworkState["incoming"],
  network: NetworkRecord | undefined,
): readonly HostId[] {
  const hostIds = new Set<HostId>();
  for (const { machine } of attached) {
    if (hasPort(machine)) hostIds.add(machine.effective.hostId);
    for (const arrival of incoming) {
      if (arrival.machineId === machine.id) hostIds.add(arrival.hostId);
    }
  }
  // A gateway is there as long as anybody may use it.
  const gatewayHostId = network?.effective.gatewayHostId;
  if (hostIds.size > 0 && gatewayHostId !== undefined) hostIds.add(gatewayHostId);
  return [...hostIds].toSorted();
}

function hasPort(machine: MachineRecord): boolean {
  return machine.effective.hostId !== "" && statesWithPort.has(machine.effective.state);
}

function hostOf(hostId: HostId, state: NetworkState): HostRecord {
  const host = state.hosts.find((candidate) => candidate.id === hostId);
  if (host === undefined) throw new Fault("host.unknown", { host: hostId });
  return host;
}

function sortBy<Item>(items: readonly Item[], key: (item: Item) => string): readonly Item[] {
  return items.toSorted((left, right) =>
    key(left) < key(right) ? -1 : key(left) > key(right) ? 1 : 0,
  );
}
