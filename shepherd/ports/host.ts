/**
 * One libvirt host as the core needs it: observe, life, live resize, volumes, guest channels, and the five phases of a
 * managed migration. Implemented by libvirt/host.ts and simulated/host.ts; both pass the same contract tests.
 * Every call may throw Fault("host.unreachable"); a call that timed out may still have happened: observe, never retry blindly.
 */
import type { Duplex, Readable } from "node:stream";
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
  readonly memoryMib: Mib;
  readonly memoryMaxMib: Mib;
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
  /** Balloon: what the guest really has now. */
  readonly memoryMib: Mib;
  /** What was last asked for. */
  readonly memoryTargetMib: Mib;
  readonly memoryMaxMib: Mib;
  readonly cpuTimeMs?: Ms | undefined;
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
  /** No error when it is already gone. */
  remove(name: string): Promise<void>;
}

export interface MigrationParameters {
  readonly machineId: MachineId;
  /** IP literal of the destination that the source's QEMU connects to. */
  readonly destinationAddress: string;
  /** Copy the machine's own top layer onto the overlay prepared at the destination. */
  readonly copyDisk: boolean;
  readonly maxDowntimeMs?: Ms | undefined;
  readonly bandwidthMbps?: number | undefined;
}
/** Opaque to the core; carried from phase to phase. */
export type MigrationCookie = Uint8Array;
export interface MigrationProgress {
  readonly phase: "disk" | "memory" | "switch" | "done";
  /** Of all phases so far: memory counts on top of disk. When done: what went over the wire. */
  readonly totalBytes: Bytes;
  readonly remainingBytes: Bytes;
  readonly elapsedMs: Ms;
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
  setVcpus(id: MachineId, vcpus: number): Promise<void>;
  setCpuPercent(id: MachineId, cpuPercent: CpuPercent): Promise<void>;
  readonly volumes: HostVolumes;
  migrateFrom(parameters: MigrationParameters): Promise<MigrationSource>;
  migrateTo(parameters: MigrationParameters): Promise<MigrationDestination>;
  /** Opens a guest channel as a byte stream; one connection each. Ends when the guest leaves this host. */
  openChannel(id: MachineId, channel: string): Promise<Duplex>;
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
