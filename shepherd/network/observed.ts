/**
 * What a host said about its network, reduced to what diff compares. Plain data; the reader of iproute2's and nft's
 * answers (shell/read-network) makes it. Holds our objects and whatever is attached to our bridges, nothing else.
 */

export interface ObservedNetwork {
  /** False: the kernel runs without IPv6, and knows no `addrgenmode`. */
  readonly hasIpv6: boolean;
  /** By name. */
  readonly links: ReadonlyMap<string, ObservedLink>;
  readonly forwarding: readonly ObservedForwarding[];
  /** Permanent neighbour entries of our bridges, from which they answer ARP. */
  readonly neighbours: readonly ObservedNeighbour[];
  /** Shaping of our taps and ifb devices, by device. */
  readonly shaping: ReadonlyMap<string, ObservedShaping>;
  /** Undefined: there is no such table. */
  readonly filters: ObservedFilters | undefined;
  /** The table that keeps LANs out of the clear; likewise. */
  readonly underlay: ObservedFilters | undefined;
  /** DHCP and DNS by namespace: digests of what they were told, and whether the program runs. */
  readonly services: ReadonlyMap<
    string,
    { readonly settings: string; readonly machines: string; readonly running: boolean }
  >;
  /** Digest of what each gateway was made from, by namespace. */
  readonly gateways: ReadonlyMap<string, string>;
  /** What gateways may do at this host; undefined: there is no such table. */
  readonly exits: ObservedFilters | undefined;
  /** By device. */
  readonly tunnels: ReadonlyMap<string, ObservedTunnel>;
}

export interface ObservedTunnel {
  readonly up: boolean;
  readonly mtu: number;
  /** IPv4, without its length; undefined: none, or several. */
  readonly address: string | undefined;
  readonly publicKey: string;
  readonly port: number;
  /** The kernel drops what comes in by another device than it would answer by. */
  readonly strict: boolean;
  /** `allowed` is `address/32`, or whatever stands there. */
  readonly peers: readonly {
    readonly publicKey: string;
    readonly endpoint: string;
    readonly allowed: string;
  }[];
  /** Addresses that are sent through it. */
  readonly routes: ReadonlySet<string>;
}

export interface ObservedLink {
  readonly name: string;
  /** `bridge`, `vxlan`, `ifb`, `tun`, `veth`, …; empty for physical devices. */
  readonly kind: string;
  readonly up: boolean;
  readonly mtu: number;
  readonly mac: string;
  readonly alias: string;
  /** The bridge it is a port of. */
  readonly master: string | undefined;
  /** False: the kernel gives it an IPv6 address of its own when it comes up. */
  readonly withoutAddresses: boolean;
  readonly bridge?: { readonly multicastSnooping: boolean; readonly spanningTree: boolean };
  readonly vxlan?: {
    readonly vni: number;
    readonly localAddress: string;
    readonly port: number;
    readonly learning: boolean;
  };
  readonly bridgePort?: {
    readonly learning: boolean;
    readonly flood: boolean;
    readonly neighbourSuppression: boolean;
  };
}

export interface ObservedForwarding {
  readonly mac: string;
  readonly device: string;
  /** `tunnel`: the VXLAN device's own table; `bridge`: the bridge's. */
  readonly table: "tunnel" | "bridge";
  /** Tunnel address; only in the tunnel table. */
  readonly address?: string;
  /** Not learned, never ages. */
  readonly fixed: boolean;
}

export interface ObservedNeighbour {
  readonly bridge: string;
  readonly address: string;
  readonly mac: string;
}

export interface ObservedShaping {
  /** Our htb is the root qdisc. */
  readonly htb: boolean;
  readonly ingress: boolean;
  /** By minor number. */
  readonly classes: ReadonlyMap<
    number,
    { readonly rateBits: number; readonly ceilBits: number; readonly burstBytes: number }
  >;
  /** Queue length in bytes by the class's minor number. */
  readonly queues: ReadonlyMap<number, number>;
  readonly selectors: readonly ObservedSelector[];
}
/** What tells frames apart: u32 compares words of them, flower looks fields up. A kernel may lack either. */
export type Classifier = "u32" | "flower";

/** A filter: frames with this MAC, or all of them, go to a class or to another device. */
export interface ObservedSelector {
  readonly classifier: Classifier;
  readonly at: "root" | "ingress";
  readonly preference: number;
  /** Which MAC it compares; undefined when it is none of ours in shape. */
  readonly match: FrameMatch | undefined;
  readonly classMinor?: number;
  readonly redirect?: string;
}

export type FrameMatch =
  | { readonly side: "source" | "destination"; readonly mac: string }
  | { readonly side: "any" };

export interface ObservedFilters {
  /** Chains with their hooks, in a form that is equal when they are. */
  readonly chains: string;
  /** Rules likewise; handles and counters left out. */
  readonly rules: string;
  /** Elements by set, each as its parts joined by ` . `. */
  readonly elements: ReadonlyMap<string, ReadonlySet<string>>;
}
