/**
 * The simulated world as plain data: what a restart of the shepherd, or of the process, must find again.
 * Only types and what follows from them without a clock's help; world.ts changes it.
 */
import type { Bytes, CpuPercent, HostId, Mib, Ms } from "#model/units";
import type { HostClaim } from "#ports/claim";
import type { DomainSpec, DomainState } from "#ports/host";
import type { HostNetworkConfig } from "#ports/host-network";

export interface DomainData {
  readonly id: string;
  readonly name: string;
  /** Undefined: a foreign domain. */
  spec: DomainSpec | undefined;
  /** Ours although another tool made it. */
  mark?: { environmentId: string; owner: string; epoch: number } | undefined;
  state: DomainState;
  vcpus: number;
  vcpusMax: number;
  cpuPercent: CpuPercent | undefined;
  /** Absent: the default. */
  cpuWeight?: number | undefined;
  memoryMaxMib: Mib;
  /** What the shepherd last asked for; a change behind its back does not show here. */
  askedMib: Mib;
  /** The balloon goes from one size to the other, at the world's speed, from then on. */
  memory: { fromMib: Mib; toMib: Mib; sinceMs: Ms };
  /** What its guest does not give up: the balloon stops there. Absent: it gives up all it is asked for. */
  heldMib?: Mib | undefined;
  cpuTime: { beforeMs: Ms; sinceMs: Ms };
  /** New at each boot, kept over moves: what a guest reads as its boot id. */
  bootId: string;
  bootedAtMs: Ms;
  /** What the guest believes to have written; must be on the volume of whichever host it runs on. */
  diskContent: string;
  /** The same of its data volumes, by name of the file. */
  dataContents?: Readonly<Record<string, string>> | undefined;
  /** Its disk is frozen: it writes to this overlay. */
  top?: string | undefined;
  /** incoming: prepared at a destination; performing, performed: at the source. */
  job: "none" | "incoming" | "performing" | "performed";
}

export interface VolumeData {
  readonly name: string;
  capacityBytes: Bytes;
  allocatedBytes: Bytes;
  readonly backing: string | undefined;
  content: string;
  /** It arrives in ranges, and counts as absent until it is sealed: a token for each mebibyte that came. */
  partial?: { sizeBytes: Bytes; pieces: Record<number, string>; touchedAtMs: Ms } | undefined;
}

export interface HostData {
  readonly id: HostId;
  readonly cores: number;
  readonly memoryMib: Mib;
  readonly poolBytes: Bytes;
  /** False: it does not answer the shepherd; its guests run on. */
  reachable: boolean;
  domains: Record<string, DomainData>;
  volumes: Record<string, VolumeData>;
  network: HostNetworkConfig;
  /** Whose it is; absent: nobody has claimed it. */
  claim?: HostClaim | undefined;
  /** What unlike hosts and paths differ in; absent: as all others. */
  hypervisorVersion?: number | undefined;
  machineTypes?: readonly string[] | undefined;
  /** Processor features that guests can have here. */
  cpuFeatures?: readonly string[] | undefined;
  poolInactive?: boolean | undefined;
  pathMtu?: Bytes | undefined;
  clockOffsetMs?: Ms | undefined;
  lacksAddress?: boolean | undefined;
  migrationPortsTaken?: number | undefined;
  /** Connections of moves from here are dropped on their way. */
  movesFiltered?: boolean | undefined;
}

export interface WorldData {
  readonly hosts: Record<HostId, HostData>;
  /** Broken promises, in words: two writers, a disk taken from under a guest. Must stay empty. */
  readonly violations: string[];
  /** Boots so far; makes boot ids. */
  boots: number;
}

export interface SimulatedHostOptions {
  readonly id: HostId;
  readonly cores: number;
  readonly memoryMib: Mib;
  readonly poolBytes: Bytes;
}

export function emptyWorld(hosts: readonly SimulatedHostOptions[]): WorldData {
  const entries = hosts.map((host): [HostId, HostData] => [
    host.id,
    {
      ...host,
      reachable: true,
      domains: {},
      volumes: {},
      network: { hostId: host.id, bridges: [] },
    },
  ]);
  return { hosts: Object.fromEntries(entries), violations: [], boots: 0 };
}

/** Taps that exist on a host: libvirt makes them with the domain and removes them with it. */
export function tapsOf(host: HostData): ReadonlySet<string> {
  const taps = Object.values(host.domains).flatMap((domain) => domain.spec?.nics ?? []);
  return new Set(taps.map((nic) => nic.tap));
}

/** Only what stands without the domains' taps: a port dies with its tap. */
export function withoutDeadPorts(
  network: HostNetworkConfig,
  taps: ReadonlySet<string>,
): HostNetworkConfig {
  const bridges = network.bridges.map((bridge) => ({
    ...bridge,
    ports: bridge.ports.filter((port) => taps.has(port.tap)),
  }));
  return { ...network, bridges };
}
