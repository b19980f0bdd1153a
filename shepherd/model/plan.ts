/**
 * The concrete actions that answer a request, with predicted cost, and their durable execution.
 * A plan is pure data; its digest is what a grant permits.
 */

import type { FaultData } from "#model/fault";
import type { NicSpec, Sizing } from "#model/objects";
import type {
  Bytes,
  Digest,
  EnvironmentId,
  GrantId,
  HostId,
  LinkId,
  MachineId,
  Mbps,
  Mib,
  Ms,
  OperationId,
  PlanId,
  RequestId,
  SiteId,
  VolumeId,
} from "#model/units";

export interface Cost {
  readonly durationMs: Ms;
  readonly bytes: Bytes;
  readonly downtimeMs: Ms;
  /** Of a prediction: from and to where each figure is expected to lie. */
  readonly band?: Band | undefined;
}
export interface Band {
  readonly durationMs: readonly [Ms, Ms];
  readonly bytes: readonly [Bytes, Bytes];
  readonly downtimeMs: readonly [Ms, Ms];
}

/** What a move was predicted from; kept with it, so that the next prediction learns from what it took. */
export interface MoveBasis {
  readonly memoryMib: Mib;
  readonly diskBytes: Bytes;
  readonly dirtyMibPerS: number;
  readonly rateMbps: Mbps;
  /** Earlier moves that the prediction rests on. */
  readonly samples: number;
}

/** In a plan the order is: create, move, memory, rate, vcpus, CPU last, destroy. */
export type PlanAction =
  | {
      readonly kind: "create_machine";
      readonly machineId: MachineId;
      readonly hostId: HostId;
      readonly siteId: SiteId;
      readonly sizing: Sizing;
      /** Data volumes that must be there before it starts; absent: none. */
      readonly volumeIds?: readonly VolumeId[] | undefined;
      /** It runs there already, made by another tool: it is marked as ours, and nothing else is done. */
      readonly adopt?: true | undefined;
      readonly cost: Cost;
    }
  | {
      readonly kind: "move_machine";
      readonly machineId: MachineId;
      readonly fromHostId: HostId;
      readonly fromSiteId: SiteId;
      readonly toHostId: HostId;
      readonly toSiteId: SiteId;
      /** Data volumes that it runs with: they go along. Absent: none. */
      readonly volumeIds?: readonly VolumeId[] | undefined;
      /** Of several moves of one plan: those of one number switch at once, lower numbers first. Absent: the only move. */
      readonly wave?: number | undefined;
      readonly basis?: MoveBasis | undefined;
      readonly cost: Cost;
    }
  | {
      /** Off and on again where it is, with what its specification then says. */
      readonly kind: "restart_machine";
      readonly machineId: MachineId;
      readonly hostId: HostId;
      /** What the guest is given to power off; absent: the default. */
      readonly stopTimeoutMs?: Ms | undefined;
      readonly volumeIds?: readonly VolumeId[] | undefined;
      readonly cost: Cost;
    }
  | {
      /** Cards plugged and unplugged while it runs, until it has those that its specification names. */
      readonly kind: "set_networks";
      readonly machineId: MachineId;
      readonly hostId: HostId;
      readonly networks: readonly NicSpec[];
      readonly cost: Cost;
    }
  | {
      readonly kind: "set_memory";
      readonly machineId: MachineId;
      readonly fromMib: Mib;
      readonly toMib: Mib;
      readonly cost: Cost;
    }
  | {
      readonly kind: "set_vcpus";
      readonly machineId: MachineId;
      readonly from: number;
      readonly to: number;
      readonly cost: Cost;
    }
  | {
      readonly kind: "set_cpu_percent";
      readonly machineId: MachineId;
      readonly from: number;
      readonly to: number;
      readonly cost: Cost;
    }
  | {
      readonly kind: "set_cpu_weight";
      readonly machineId: MachineId;
      readonly from: number;
      readonly to: number;
      readonly cost: Cost;
    }
  | {
      readonly kind: "set_rate";
      readonly linkId: LinkId;
      readonly fromMbps: Mbps;
      readonly toMbps: Mbps;
      readonly cost: Cost;
    }
  | { readonly kind: "apply_network"; readonly hostIds: readonly HostId[]; readonly cost: Cost }
  /** Removes what was left over; each item is proven to be litter once more when its turn comes. */
  | {
      readonly kind: "sweep_host";
      readonly hostId: HostId;
      readonly litter: readonly LitterItem[];
      readonly cost: Cost;
    }
  | {
      /** A data volume, while its machine runs or not. */
      readonly kind: "grow_volume";
      readonly volumeId: VolumeId;
      readonly hostId: HostId;
      readonly fromGib: number;
      readonly toGib: number;
      readonly cost: Cost;
    }
  | {
      /** A data volume, with what is on it. */
      readonly kind: "remove_volume";
      readonly volumeId: VolumeId;
      /** "": it was never placed. */
      readonly hostId: HostId;
      readonly cost: Cost;
    }
  | {
      readonly kind: "destroy_machine";
      readonly machineId: MachineId;
      readonly hostId: HostId;
      /** Its own disk stays, as a volume of its environment. */
      readonly keepDisk?: true | undefined;
      /** What the guest is given to power off; absent: the default. */
      readonly stopTimeoutMs?: Ms | undefined;
      readonly cost: Cost;
    };

/** One thing to remove from a host. `elsewhere`: only while its machine runs at its own host, asked again then. */
export interface LitterItem {
  readonly kind: "domain" | "volume";
  /** Id of a domain, name of a volume. */
  readonly id: string;
  readonly because: "unknown" | "elsewhere" | "expired";
  readonly machineId?: MachineId | undefined;
  /** A copy of this data volume, whose own file lies elsewhere. */
  readonly volumeId?: VolumeId | undefined;
}

export interface RunnerUp {
  readonly hostId: HostId;
  readonly score: number;
}

export interface Plan {
  readonly id: PlanId;
  readonly digest: Digest;
  readonly requestId: RequestId;
  readonly environmentId: EnvironmentId;
  readonly actions: readonly PlanAction[];
  readonly cost: Cost;
  /** Why this and not another: chosen hosts, others with scores, refusals counted by reason. */
  readonly explanation: {
    readonly chosen: readonly RunnerUp[];
    readonly runnersUp: readonly RunnerUp[];
    readonly refusedBy: Readonly<Record<string, number>>;
  };
  readonly createdAtMs: Ms;
}

/** The planner's expected no: no host, no room. */
export interface PlanRefusal {
  readonly kind: "refused";
  readonly code:
    | "placement.no_host_fits"
    | "placement.uplink_full"
    | "placement.ceiling"
    | "placement.site_unavailable"
    | "placement.machine_not_running"
    | "placement.deadline"
    | "envelope.machine_count"
    | "envelope.links";
  readonly message: string;
  /** Nearest values that would pass, in the words of the asker's parameters. */
  readonly nearest?: Readonly<Record<string, number>> | undefined;
  readonly refusedBy: Readonly<Record<string, number>>;
}

export type OperationKind = "create" | "adapt" | "update" | "release" | "repair" | "destroy";
/** stuck: undo failed or the world is unknown; a human must look. partial: whole and running, but not all that was granted. */
export type OperationState =
  | "pending"
  | "running"
  | "undoing"
  | "succeeded"
  | "failed"
  | "partial"
  | "cancelled"
  | "stuck";

export interface Operation {
  readonly id: OperationId;
  readonly kind: OperationKind;
  readonly state: OperationState;
  readonly environmentId: EnvironmentId;
  readonly machineIds: readonly MachineId[];
  readonly requestId: RequestId;
  readonly planId: PlanId;
  readonly grantId: GrantId;
  /** Fencing epoch of the shepherd that runs it. */
  readonly epoch: number;
  /** 0..100 and what is being done, for people. */
  readonly progress: { readonly percent: number; readonly message: string };
  readonly measured?: Cost | undefined;
  readonly fault?: FaultData | undefined;
  readonly cancelRequested: boolean;
  /** The trace of the ask that it came from, when somebody follows it; also a later shepherd goes on in it. */
  readonly traceparent?: string | undefined;
  readonly createdAtMs: Ms;
  readonly endedAtMs?: Ms | undefined;
}

export type StepState =
  | "pending"
  | "doing"
  | "done"
  | "failed"
  | "undoing"
  | "undone"
  | "undo_failed";

export interface StepRecord {
  readonly operationId: OperationId;
  readonly n: number;
  readonly name: string;
  readonly state: StepState;
  /** What observe said before do, as data. */
  readonly observed?: unknown;
  /** What do produced, as data that later steps and undo may read after a restart. */
  readonly outcome?: unknown;
  readonly fault?: FaultData | undefined;
  readonly startedAtMs?: Ms | undefined;
  readonly endedAtMs?: Ms | undefined;
}

/**
 * The most that a machine may take on one host while an operation runs: whole amounts, not differences, so that room is
 * counted right at every step (a host counts the larger of this and `effective` there). A move holds both hosts.
 */
export interface Reservation {
  readonly operationId: OperationId;
  readonly hostId: HostId;
  readonly machineId: MachineId;
  readonly cpuPercent: number;
  readonly memoryMib: Mib;
  readonly diskBytes: Bytes;
  readonly expiresAtMs: Ms;
}
