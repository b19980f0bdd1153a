/**
 * One libvirt host as the core needs it: observe, life, live resize, volumes, guest channels, and the five phases of a
 * managed migration. Implemented by libvirt/host.ts and simulated/host.ts; both pass the same contract tests.
 * Every call may throw Fault("host.unreachable"); a call that timed out may still have happened: observe, never retry blindly.
 */
import type { Duplex, Readable } from "node:stream";
import type { Blocker } from "#model/blocker";
import type { XmlPatch } from "#model/objects";
import type { Bytes, CpuPercent, EnvironmentId, HostId, MachineId, Mib, Ms } from "#model/units";

/** Everything a domain's XML is made of. Pure data; derived from a MachineRecord, never remembered apart from it. */
export interface DomainSpec {
  readonly id: MachineId;
  /** `drover-<environment>-<machine>`. */
  readonly name: string;
  readonly environmentId: EnvironmentId;
  readonly owner: string;
  readonly epoch: number;
  readonly vcpus: number;
  readonly vcpusMax: number;
  readonly cpuPercent: CpuPercent;
  /** Absent: the default. */
  readonly cpuWeight?: number | undefined;
  readonly memoryMib: Mib;
  readonly memoryMaxMib: Mib;
  /** The processor in the hypervisor's words (`Host.commonCpu`); absent: what the host has. */
  readonly cpu?: string | undefined;
  /** Volume names in the host's pool; absent = boot from the disk. */
  readonly boot?:
    | {
        readonly kernelVolume: string;
        readonly initrdVolume?: string | undefined;
        readonly cmdline: string;
      }
    | undefined;
  readonly diskVolume: string;
  /** Volumes of the same pool that the guest sees as vdb, vdc, … */
  readonly dataVolumes?: readonly string[] | undefined;
  /** A read-only medium with the guest's first words (NoCloud). */
  readonly seedVolume?: string | undefined;
  /** Checked where they were declared; applied last. */
  readonly xmlPatches?: readonly XmlPatch[] | undefined;
  readonly nics: readonly DomainNic[];
  /** virtio-serial channel names beside `dev.drover.0`, which is always there. */
  readonly channels: readonly string[];
}
export interface DomainNic {
  readonly mac: string;
  readonly bridge: string;
  readonly tap: string;
  readonly mtu: number;
}

export type DomainState =
  | "running"
  | "paused"
  | "paused_migrating"
  | "shut_off"
  | "crashed"
  | "other";

/** What a host says about one domain. */
export interface ObservedDomain {
  /** libvirt UUID; our machine's id when `ours`. */
  readonly id: string;
  readonly name: string;
  readonly state: DomainState;
  /** Undefined = not our mark: never touch it. */
  readonly ours?:
    | { readonly environmentId: EnvironmentId; readonly owner: string; readonly epoch: number }
    | undefined;
  /** Not ours: the namespace of another controller's mark in its metadata, if there is one. */
  readonly otherMark?: string | undefined;
  readonly vcpus: number;
  readonly vcpusMax: number;
  /** Undefined: uncapped. */
  readonly cpuPercent?: CpuPercent | undefined;
  /** Against the other domains of its host, 1 to 10,000. Absent: the default. */
  readonly cpuWeight?: number | undefined;
  /** Balloon: what the guest really has now. */
  readonly memoryMib: Mib;
  /** What was last asked for. */
  readonly memoryTargetMib: Mib;
  readonly memoryMaxMib: Mib;
  readonly cpuTimeMs?: Ms | undefined;
  /** Processors that its guest has, given-back ones that it could not let go of included. Absent: as many as `vcpus`. */
  readonly guestVcpus?: number | undefined;
  /** Names of the files that its disks write to now, in the order of the disks; read-only media are left out. */
  readonly diskVolumes?: readonly string[] | undefined;
  /** MACs of its network cards, as it runs. */
  readonly macs?: readonly string[] | undefined;
}

/** A guest's own word about its memory: a claim. */
export interface GuestMemory {
  /** What it has, by its balloon: of this moment, where a domain's own word may be a second old. The host's word. */
  readonly memoryMib: Mib;
  /** What it could still give up: free, or held for files that it can read again. */
  readonly usableMib: Mib;
  /** When it said so, by the host's clock; to see whether it has spoken again. Whole seconds. */
  readonly saidAtMs: Ms;
}

export interface HostObservation {
  readonly libvirtVersion: string;
  readonly cores: number;
  readonly freeMemoryMib: Mib;
  readonly poolFreeBytes: Bytes;
  readonly accelerations: readonly ("kvm" | "tcg")[];
}

export interface VolumeInfo {
  readonly name: string;
  readonly capacityBytes: Bytes;
  readonly allocatedBytes: Bytes;
  /** Name of the backing volume in the same pool, if any. */
  readonly backing?: string | undefined;
}

export interface HostVolumes {
  /** Refreshes the pool first; undefined when there is none of that name. */
  find(name: string): Promise<VolumeInfo | undefined>;
  list(): Promise<readonly VolumeInfo[]>;
  /** Places a file, whole or not at all: written under a temporary name and renamed by re-creation, checked by size. */
  upload(request: {
    readonly name: string;
    readonly format: "qcow2" | "raw";
    readonly sizeBytes: Bytes;
    readonly capacityBytes: Bytes;
    /** A file's stream, or what there is of it at once. */
    readonly open: () => Readable | Iterable<Uint8Array>;
    readonly onProgress?: (bytes: Bytes) => void;
  }): Promise<void>;
  /** An empty qcow2 overlay of exactly `capacityBytes` on a backing volume of the same pool. */
  createOverlay(request: {
    readonly name: string;
    readonly backing: string;
    readonly capacityBytes: Bytes;
  }): Promise<void>;
  /** An empty qcow2 of its own. Fault `libvirt.exists`. */
  createEmpty(request: { readonly name: string; readonly capacityBytes: Bytes }): Promise<void>;
  /** Makes one larger that no running machine has open; never smaller. */
  grow(request: { readonly name: string; readonly capacityBytes: Bytes }): Promise<void>;
  /** No error when it is already gone. */
  remove(name: string): Promise<void>;
  /**
   * SHA-256 in hex of each range of the file, in order, the last one perhaps shorter; taken where the bytes lie, so that
   * none of them travel. Of half-shipped files too. Undefined: no such file.
   */
  digests(request: {
    readonly name: string;
    readonly rangeBytes: Bytes;
  }): Promise<RangeDigests | undefined>;
  /** Bytes of a file that nobody writes. */
  readRange(range: VolumeRange): AsyncIterable<Uint8Array>;
  /**
   * Begins a file that arrives in ranges, empty, or goes on with what is there of it: a file of that name, whole or not,
   * keeps its bytes and counts as absent until it is sealed.
   */
  beginPartial(request: {
    readonly name: string;
    readonly sizeBytes: Bytes;
  }): Promise<{ readonly isNew: boolean }>;
  /** Fault `volume.size_mismatch` when other than `lengthBytes` came, `pool.full`. */
  writeRange(range: VolumeRange & { readonly bytes: AsyncIterable<Uint8Array> }): Promise<void>;
  /** From now on it counts as there. No error when it does already. */
  seal(name: string): Promise<void>;
  /** Files that are not whole: what is arriving now, and what stopped arriving. */
  listPartial(): Promise<readonly PartialVolume[]>;
}

/** A part of a volume's file. */
export interface VolumeRange {
  readonly name: string;
  readonly offsetBytes: Bytes;
  readonly lengthBytes: Bytes;
}
export interface RangeDigests {
  /** Of the file, holes included. */
  readonly sizeBytes: Bytes;
  readonly digests: readonly string[];
}
export interface PartialVolume {
  readonly name: string;
  readonly allocatedBytes: Bytes;
  /** When its last range came, by the host's clock. */
  readonly touchedAtMs: Ms;
}

/** What decides where a running machine can go, as its own host says. Passed on to the other host as it is. */
export interface MoveCandidate {
  readonly machineId: MachineId;
  readonly name: string;
  readonly state: DomainState;
  readonly memoryMib: Mib;
  readonly acceleration: "kvm" | "tcg" | "other";
  /** Versioned: `pc-q35-7.2`. */
  readonly machineType: string;
  /** The hypervisor's own: QEMU 7.2.22 is 7,002,022. */
  readonly hypervisorVersion: number;
  /** The guest's processor in the hypervisor's words; undefined: its default. */
  readonly cpu?: string | undefined;
  /** Writable disks by their volumes' names in the host's pool. */
  readonly volumes: readonly string[];
  /** Writable disks that lie elsewhere. */
  readonly strangeDisks: readonly string[];
}

/** Both in the host's pool. */
export interface DiskLayers {
  readonly volume: string;
  readonly top: string;
}
/** The overlay that a machine writes to while its own layer is frozen. */
export function topVolumeOf(volume: string): string {
  return volume.replace(/(\.qcow2)?$/, ".top.qcow2");
}

export interface MigrationParameters {
  readonly machineId: MachineId;
  /** IP literal of the destination that the source's QEMU connects to. */
  readonly destinationAddress: string;
  /**
   * Copy every disk that it writes to, onto the file of that name which was prepared at the destination; of a disk in
   * layers only the top.
   */
  readonly copyDisk: boolean;
  readonly maxDowntimeMs?: Ms | undefined;
  readonly bandwidthMbps?: number | undefined;
  /** What may be done when the copy does not end: a longer stop, slowing the guest, post-copy. Default: the first two. */
  readonly mayRaiseDowntime?: boolean | undefined;
  readonly mayThrottle?: boolean | undefined;
  readonly mayPostCopy?: boolean | undefined;
  /**
   * Memory and disk go through TLS, with the certificates that lie on both hosts; the destination proves to be this name.
   * Absent: they go in the clear.
   */
  readonly tls?: { readonly destinationName: string } | undefined;
}
/** Opaque to the core; carried from phase to phase. */
export type MigrationCookie = Uint8Array;
export interface MigrationProgress {
  readonly phase: "disk" | "memory" | "switch" | "done";
  /** Of all phases so far: memory counts on top of disk. When done: what went over the wire. */
  readonly totalBytes: Bytes;
  readonly remainingBytes: Bytes;
  readonly elapsedMs: Ms;
  /** Rounds of dirty tracking so far; 1 is the first pass over all memory. */
  readonly iteration?: number | undefined;
  /** What the copy carries now, and what the guest dirties meanwhile. */
  readonly bytesPerS?: Bytes | undefined;
  readonly dirtyBytesPerS?: Bytes | undefined;
  /** How much the hypervisor slows the guest down, 0 to 99. */
  readonly throttlePercent?: number | undefined;
  /** Final downtime as the hypervisor measured it; only at the end. */
  readonly downtimeMs?: Ms | undefined;
}

/** The source's half; one session a move, on a connection of its own (libvirt ties the job to it). */
export interface MigrationSource {
  begin(): Promise<{ readonly cookie: MigrationCookie; readonly domainXml: string }>;
  /** Resolves when memory and disk are there and the source is suspended. */
  perform(
    prepared: { readonly cookie: MigrationCookie; readonly uri: string },
    onProgress: (progress: MigrationProgress) => void,
  ): Promise<MigrationCookie>;
  /** cancelled = true resumes the guest here. */
  confirm(end: { readonly cookie: MigrationCookie; readonly cancelled: boolean }): Promise<void>;
  /** Cancels a running perform; the guest goes on here. */
  abort(): Promise<void>;
  /** Of a running perform; undefined: all there is. */
  setBandwidth(mbps: number | undefined): Promise<void>;
  /** The guest goes on at the destination and fetches what it lacks. Fault `libvirt.unsupported` where it was not begun so. */
  startPostCopy(): Promise<void>;
  close(): Promise<void>;
}
export interface MigrationDestination {
  prepare(begun: {
    readonly cookie: MigrationCookie;
    readonly domainXml: string;
  }): Promise<{ readonly cookie: MigrationCookie; readonly uri: string }>;
  /** cancelled = false starts the guest here; resolves when it runs. */
  finish(performed: {
    readonly cookie: MigrationCookie;
    readonly cancelled: boolean;
  }): Promise<{ readonly cookie: MigrationCookie }>;
  close(): Promise<void>;
}

export type DomainEvent =
  | {
      readonly kind:
        | "started"
        | "suspended"
        | "resumed"
        | "stopped"
        | "crashed"
        | "defined"
        | "undefined";
      readonly machineId: string;
      readonly detail: number;
    }
  | { readonly kind: "balloon"; readonly machineId: string; readonly memoryMib: Mib };

export interface Host {
  readonly id: HostId;
  observe(): Promise<HostObservation>;
  /** All domains of the host, foreign ones included. */
  listDomains(): Promise<readonly ObservedDomain[]>;
  findDomain(id: MachineId): Promise<ObservedDomain | undefined>;
  findDomainByName(name: string): Promise<ObservedDomain | undefined>;
  /** Defines and starts. Fault `machine.name_taken` when a domain of that name is there that is not this machine. */
  startDomain(spec: DomainSpec): Promise<void>;
  /** Asks the guest to power off, destroys after the grace; then removes the definition. No error when it is gone. */
  stopDomain(id: MachineId, options: { readonly graceMs: Ms }): Promise<void>;
  /**
   * Writes our mark on a domain that another tool made, or takes it away; nothing else of it changes, running or defined.
   * Faults `libvirt.no_domain`, `machine.not_ours` when it is marked as another environment's.
   */
  markDomain(
    id: MachineId,
    mark:
      | { readonly environmentId: EnvironmentId; readonly owner: string; readonly epoch: number }
      | undefined,
  ): Promise<void>;
  /** Continues a paused guest. */
  resumeDomain(id: MachineId): Promise<void>;
  setMemory(id: MachineId, memoryMib: Mib): Promise<void>;
  /** What the guest last said about its memory; undefined when it says nothing: it boots, or has no balloon. */
  guestMemory(id: MachineId): Promise<GuestMemory | undefined>;
  setVcpus(id: MachineId, vcpus: number): Promise<void>;
  setCpuPercent(id: MachineId, cpuPercent: CpuPercent): Promise<void>;
  /** Its part of a busy host, in proportion to the weights of the others. */
  setCpuWeight(id: MachineId, cpuWeight: number): Promise<void>;
  /** Plugs a network card into a running machine, for this run and the next; its bridge is there. Nothing when it is in. */
  attachNic(id: MachineId, nic: DomainNic): Promise<void>;
  /** Asks the guest to let go of a card. Fault `machine.card_held` when it does not within a few seconds. */
  detachNic(id: MachineId, mac: string): Promise<void>;
  /** Makes a disk of a running machine larger; the guest sees it at once. Fault `libvirt.bad_argument`: no such disk. */
  growDisk(
    id: MachineId,
    disk: { readonly volume: string; readonly capacityBytes: Bytes },
  ): Promise<void>;
  readonly volumes: HostVolumes;
  /** A running machine as a move would find it; undefined when it is not here. Reads only. */
  describeForMove(id: MachineId): Promise<MoveCandidate | undefined>;
  /** Everything about this host that keeps the machine from coming: all at once, not the first. Reads only. */
  blockersOf(candidate: MoveCandidate): Promise<readonly Blocker[]>;
  /** The best processor that guests can have here and be moved away with, in the hypervisor's words. */
  guestCpu(): Promise<string>;
  /** The best processor that all of these can give; asked of any one host. Fault `libvirt.unsupported_config` of unlike makers. */
  commonCpu(models: readonly string[]): Promise<string>;
  /**
   * Memory that the guest wrote in a second, measured over the next `seconds`; undefined when the hypervisor cannot tell,
   * or the machine is not here or is at work.
   */
  dirtyMibPerS(id: MachineId, seconds: number): Promise<number | undefined>;
  /**
   * Freezes a disk of a running guest: from now on it writes to a fresh overlay `top` on `volume`, and `volume` changes no
   * more. The guest does not stop. Does nothing when `top` is written to already.
   */
  freezeDisk(id: MachineId, disk: DiskLayers): Promise<void>;
  /**
   * The way back: what was written to `top` goes into `volume`, the guest writes to that again, and `top` is removed.
   * The guest does not stop. Goes on where an earlier one was interrupted; does nothing when it is done.
   */
  foldDisk(id: MachineId, disk: DiskLayers): Promise<void>;
  migrateFrom(parameters: MigrationParameters): Promise<MigrationSource>;
  migrateTo(parameters: MigrationParameters): Promise<MigrationDestination>;
  /** Opens a guest channel as a byte stream; one connection each. Ends when the guest leaves this host. */
  openChannel(id: MachineId, channel: string): Promise<Duplex>;
  /** Its serial console as a byte stream; whoever had it open is hung up. Ends when the guest leaves this host. */
  openConsole(id: MachineId): Promise<Duplex>;
  /** Domain events, ours and foreign; the returned function ends it. No replay: after `onLost` observe everything. */
  watch(listener: {
    readonly onEvent: (event: DomainEvent) => void;
    readonly onLost: (reason: string) => void;
    readonly onRestored: () => void;
  }): () => void;
  close(): Promise<void>;
}

/** Access to hosts by id; the shepherd's only door to them. Throws Fault `host.unknown` for a foreign id. */
/** Ways into LANs, for people: bytes to and from a TCP port of a machine, out of a namespace of its network. */
export interface LanDoor {
  /** Fault `host.unreachable`; what does not listen ends the stream at once. */
  open(request: {
    readonly hostId: HostId;
    readonly namespace: string;
    readonly address: string;
    readonly port: number;
  }): Promise<Duplex>;
}
export interface Hosts {
  get(id: HostId): Host;
  network(id: HostId): import("#ports/host-network").HostNetwork;
}
