/** Sites and their hosts as the owner declares them in drover.yaml. Knows nothing of what a host answers. */
import type { CpuPercent, Gib, HostId, Mbps, Mib, Ms, SiteId } from "#model/units";

/** What the owner lends of a host; never more than this is used, whatever the host has. */
export interface Lend {
  readonly cpuPercent: CpuPercent;
  readonly memoryMib: Mib;
  readonly diskGib: Gib;
}

export interface HostRecord {
  readonly id: HostId;
  readonly siteId: SiteId;
  /** libvirt storage pool (type dir) that holds our volumes. */
  readonly pool: string;
  /** IP literal that other hosts reach for migration and VXLAN. */
  readonly migrationAddress: string;
  readonly lend: Lend;
  /** How it meets hosts of other sites. Absent: in the clear (the simulated world). */
  readonly tunnel?: HostTunnel | undefined;
  /** What it can carry to other hosts, for promises of links. Absent: nobody counts. */
  readonly uplinkMbps?: Mbps | undefined;
}
export interface HostTunnel {
  /** UDP; the next port is used as well while keys are rotated. */
  readonly port: number;
  /** Sites to which traffic is not encrypted, because the operator said so. */
  readonly clearSites: readonly SiteId[];
}

/**
 * A host's end of the encrypted mesh between sites. Journaled, so that every host's tunnels are derived like all else;
 * the private keys are made on the host and stay there.
 */
export interface TunnelEnd {
  readonly hostId: HostId;
  /** Its address inside the mesh; LANs' tunnels run between these. */
  readonly address: string;
  /** Two while keys are rotated. */
  readonly keys: readonly TunnelKey[];
  /** The generation of keys that it sends with. */
  readonly generation: number;
}
export interface TunnelKey {
  readonly generation: number;
  readonly publicKey: string;
}

export interface Site {
  readonly id: SiteId;
  readonly owner: string;
  /** Folder or bundle of the site owner's policy. */
  readonly policy: string;
  /** What the paths to other sites carry, for promises of links. */
  readonly pathMbps?: Readonly<Record<SiteId, Mbps>> | undefined;
  readonly hosts: readonly HostRecord[];
}

/**
 * A person's word about a host. dead: it is off for good and nothing of ours runs there, whatever it may say later; it is
 * neither asked nor used until it is taken back. draining: it takes nothing more, and its machines move away. returning:
 * it was dead and is being cleaned; it takes nothing yet, and what runs there stays.
 */
export interface HostMark {
  readonly hostId: HostId;
  readonly kind: "dead" | "draining" | "returning";
  readonly by: string;
  readonly reason: string;
  /** dead: how it was made sure that it cannot come back by itself (`power off at the rack`). */
  readonly fencedBy?: string | undefined;
  readonly sinceMs: Ms;
}
