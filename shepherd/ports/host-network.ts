/**
 * The network state of one host, as wished (derived, pure: network/derive.ts) and as observed.
 * apply makes the host equal to the wish and touches nothing that lacks our prefix.
 */
import type { HostId, Mbps } from "#model/units";

/** One of our LANs on one host. Interface names are at most 15 characters and start with `dv`. */
export interface BridgeConfig {
  readonly networkId: string;
  readonly bridge: string;
  readonly vxlan: string;
  readonly vni: number;
  readonly mtu: number;
  /** This host's tunnel address. */
  readonly localAddress: string;
  /** Tunnel addresses of all other hosts that carry the network: head-end replication. */
  readonly peers: readonly string[];
  /** MACs that live elsewhere, each with the tunnel address of its host; `guestAddress` lets the bridge answer ARP for it here. */
  readonly remotes: readonly {
    readonly mac: string;
    readonly address: string;
    readonly guestAddress: string;
  }[];
  readonly ports: readonly PortConfig[];
}
/** A machine's tap on the bridge. A port whose tap does not exist yet is applied as far as possible, again later. */
export interface PortConfig {
  readonly tap: string;
  readonly mac: string;
  readonly address: string;
  /** True while an incoming move has not switched over: no frame leaves or enters. */
  readonly blocked: boolean;
  /** Promised rates towards and from single peers of the LAN; both directions. */
  readonly rates: readonly { readonly peerMac: string; readonly rateMbps: Mbps }[];
}
/** Everything of ours on a host; sorted, so that equal configs are equal JSON. */
export interface HostNetworkConfig {
  readonly hostId: HostId;
  readonly bridges: readonly BridgeConfig[];
}

/** One line for people and tests: what differs between wish and host. */
export interface NetworkDifference {
  readonly object: string;
  readonly problem: "missing" | "surplus" | "different";
  readonly detail: string;
}

export interface HostNetwork {
  /** Differences between the wish and what the host says now; empty = equal. Ports without a tap are not counted. */
  audit(wish: HostNetworkConfig): Promise<readonly NetworkDifference[]>;
  /** Makes the host equal to the wish in one batch; returns what it changed. Idempotent. Fault `network.apply_failed` names the command. */
  apply(wish: HostNetworkConfig): Promise<readonly NetworkDifference[]>;
}
