/**
 * The network state of one host, as wished (derived, pure: network/derive.ts) and as observed.
 * apply makes the host equal to the wish and touches nothing that lacks our prefix.
 */
import type { HostId, Mbps, Ms } from "#model/units";

/** One of our LANs on one host. Interface names are at most 15 characters and start with `dv`. */
export interface BridgeConfig {
  readonly networkId: string;
  readonly bridge: string;
  readonly vxlan: string;
  readonly vni: number;
  readonly mtu: number;
  /** This host's tunnel address; undefined: the one of whichever way leads to the other host (tunnels). */
  readonly localAddress: string | undefined;
  /** Tunnel addresses of all other hosts that carry the network: head-end replication. */
  readonly peers: readonly string[];
  /** MACs that live elsewhere, each with the tunnel address of its host; `guestAddress` lets the bridge answer ARP for it here. */
  readonly remotes: readonly {
    readonly mac: string;
    readonly address: string;
    readonly guestAddress: string;
  }[];
  readonly ports: readonly PortConfig[];
  /** DHCP and DNS for the machines here; the same on every host of the network. */
  readonly services?: LanServices | undefined;
  /** The LAN's way out, where it is at this host. */
  readonly gateway?: LanGateway | undefined;
}
export interface LanGateway {
  /** Network namespace. */
  readonly namespace: string;
  /** Its card, on the bridge. */
  readonly device: string;
  /** Of the card inside. */
  readonly mac: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly mtu: number;
  /** With NAT: the wire between the gateway and its host. */
  readonly wayOut?:
    | { readonly device: string; readonly hostAddress: string; readonly insideAddress: string }
    | undefined;
}
export interface LanServices {
  /** Network namespace. */
  readonly namespace: string;
  /** Its card, on the bridge. */
  readonly device: string;
  /** Of the card inside. */
  readonly mac: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly network: string;
  readonly domain: string;
  /** Default router that machines are told; undefined: none. */
  readonly router: string | undefined;
  readonly mtu: number;
  /** Every machine of the network, wherever it is. */
  readonly machines: readonly {
    readonly name: string;
    readonly mac: string;
    readonly address: string;
  }[];
}
/** A machine's tap on the bridge. A port whose tap does not exist yet is applied as far as possible, again later. */
export interface PortConfig {
  readonly tap: string;
  readonly mac: string;
  readonly address: string;
  /** True while an incoming move has not switched over: no frame leaves or enters. */
  readonly blocked: boolean;
  /** Promised rates towards and from single peers of the LAN; both directions. */
  readonly rates: readonly PortRate[];
}
/** A WireGuard device of a host: its end of the mesh between sites, of one generation of keys. */
export interface TunnelConfig {
  readonly device: string;
  /** Inside the mesh. */
  readonly address: string;
  /** UDP. */
  readonly port: number;
  readonly mtu: number;
  /** Of the key that the host made itself. */
  readonly publicKey: string;
  /** True for the one device that packets leave by; every device receives. */
  readonly sends: boolean;
  readonly peers: readonly {
    readonly publicKey: string;
    /** `address:port` on the underlay. */
    readonly endpoint: string;
    /** Inside the mesh. */
    readonly address: string;
  }[];
}
export interface TunnelsConfig {
  readonly devices: readonly TunnelConfig[];
  /** Addresses of hosts that may be met in the clear; VXLAN of ours with any other does not pass. */
  readonly clearPeers: readonly string[];
}
export interface PortRate {
  /** Absent: towards and from everybody whom no other rate of the port names. */
  readonly peerMac?: string | undefined;
  readonly rateMbps: Mbps;
  /** low: a short queue. */
  readonly latency?: "low" | undefined;
  /** Absent: as little as the rate needs. */
  readonly burstKib?: number | undefined;
}
/** Everything of ours on a host; sorted, so that equal configs are equal JSON. */
export interface HostNetworkConfig {
  readonly hostId: HostId;
  readonly bridges: readonly BridgeConfig[];
  /** Absent: this host knows no tunnels, and meets every other host in the clear. */
  readonly tunnels?: TunnelsConfig | undefined;
  /** Hosts of the fleet, which no gateway leads to; only where there is one. */
  readonly fleetAddresses?: readonly string[] | undefined;
}

/** One line for people and tests: what differs between wish and host. */
export interface NetworkDifference {
  readonly object: string;
  readonly problem: "missing" | "surplus" | "different";
  readonly detail: string;
}

/** What a host finds when it looks at its end of a move; undefined where it has no means to tell. */
export interface MoveWay {
  /** Whether `address` is one of its own. */
  readonly ownsAddress: boolean;
  /** Whether it has the program that keys of tunnels are made by. */
  readonly canMakeKeys: boolean;
  /** Ports of `ports` that something holds already. */
  readonly portsTaken: number;
  /** What became of a connection to the peer's last port: refused counts as passed, for nobody has to listen. */
  readonly peer: "passes" | "filtered" | "unreachable" | undefined;
}

/** A change that waits on the host. */
export interface ArmedChange {
  /** Sends it off at once, and waits for no answer: `apply` of the same wish follows, and looks. Once. */
  fire(): void;
}

export interface HostNetwork {
  /** Differences between the wish and what the host says now; empty = equal. Ports without a tap are not counted. */
  audit(wish: HostNetworkConfig): Promise<readonly NetworkDifference[]>;
  /** Makes the host equal to the wish in one batch; returns what it changed. Idempotent. Fault `network.apply_failed` names the command. */
  apply(wish: HostNetworkConfig): Promise<readonly NetworkDifference[]>;
  /**
   * Readies what frames wait for of the way to this wish (forwarding and filters; no device is made or removed), as far
   * as it names one of these MACs or taps. Undefined: there is nothing to ready, or no way to.
   */
  arm(
    wish: HostNetworkConfig,
    concerning: readonly { readonly mac: string; readonly tap: string }[],
  ): Promise<ArmedChange | undefined>;
  /**
   * Public key of the host's own key for this device; the private one is made when there is none, on the host, and never
   * leaves it. Faults `network.key_exposed` (others may read the file), `network.feature_missing` (no WireGuard).
   */
  tunnelKey(device: string, options?: { readonly fresh?: boolean }): Promise<string>;
  /** True when this device and all these peers of it have agreed on keys, whether or not anything is sent by it yet. */
  shakesHands(
    device: string,
    peers: readonly { readonly publicKey: string; readonly address: string }[],
  ): Promise<boolean>;
  /**
   * Largest IP packet that reaches an address of the underlay whole, up to `maxBytes`, measured by packets that must not
   * be cut into pieces. 0: it does not answer at all.
   */
  pathMtu(address: string, maxBytes: number): Promise<number>;
  /** What its own clock says; the caller knows how long the question took. */
  clockMs(): Promise<Ms>;
  /** Looks at this end of a move to or from a peer; changes nothing. */
  moveWay(question: {
    readonly address: string;
    readonly ports: { readonly first: number; readonly last: number };
    readonly peerAddress: string;
  }): Promise<MoveWay>;
}
