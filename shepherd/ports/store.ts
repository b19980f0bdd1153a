/**
 * The journal. Everything durable goes through a transaction; what is committed survives a kill at any instruction.
 * Implemented by store/ on SQLite; PostgreSQL later passes the same tests. Knows records, not rules.
 */
import type { Approval, ApprovalState, Exemption, Recall } from "#model/consent";
import type { Event, NewEvent } from "#model/event";
import type { Hold } from "#model/facts";
import type { AnyObjectRecord, ObjectKind, ObjectRecord } from "#model/objects";
import type { ObligationState, OwedObligation } from "#model/obligation";
import type { Operation, Plan, Reservation, StepRecord } from "#model/plan";
import type { Adaptation, Decision, Grant, Request } from "#model/request";
import type { HostMark, TunnelEnd } from "#model/site";
import type { Digest, EnvironmentId, HostId, MachineId, Ms, OperationId } from "#model/units";

export interface Journal {
  /**
   * Records and lists are frozen all the way down: many read the same ones. Lists are in the order
   * of keys, and the same one is handed out until something of it changes.
   */
  readonly objects: {
    get<Kind extends ObjectKind>(kind: Kind, id: string): Promise<ObjectRecord<Kind> | undefined>;
    findByKey<Kind extends ObjectKind>(
      kind: Kind,
      key: string,
    ): Promise<ObjectRecord<Kind> | undefined>;
    list<Kind extends ObjectKind>(
      kind: Kind,
      /** `hostId`: where the object is now, by its effective state. */
      filter?: { environmentId?: EnvironmentId; hostId?: HostId },
    ): Promise<readonly ObjectRecord<Kind>[]>;
    /** Inserts or replaces by id; Fault `conflict.exists` when the key belongs to another id; version must be the stored one + 1, else Fault `conflict.version`. */
    put(record: AnyObjectRecord): Promise<void>;
    remove(kind: ObjectKind, id: string): Promise<void>;
  };
  readonly requests: {
    add(request: Request): Promise<void>;
    get(id: string): Promise<Request | undefined>;
    /** The asker's earlier request with this key. */
    findByKey(subjectName: string, idempotencyKey: string): Promise<Request | undefined>;
    since(atMs: Ms): Promise<readonly Request[]>;
  };
  readonly decisions: {
    add(decision: Decision): Promise<void>;
    get(id: string): Promise<Decision | undefined>;
    /** All of a request, oldest first: at the request, then at the plan. */
    ofRequest(requestId: string): Promise<readonly Decision[]>;
    list(filter: { environmentId?: EnvironmentId; limit: number }): Promise<readonly Decision[]>;
    /** Newest first, those with an `n` below `before`; `n` grows with every decision. */
    page(range: {
      before?: number | undefined;
      limit: number;
    }): Promise<readonly { readonly n: number; readonly decision: Decision }[]>;
  };
  readonly plans: {
    add(plan: Plan): Promise<void>;
    get(id: string): Promise<Plan | undefined>;
    /** Oldest first; more than one when the world changed while it waited. */
    ofRequest(requestId: string): Promise<readonly Plan[]>;
  };
  readonly grants: {
    add(grant: Grant): Promise<void>;
    get(id: string): Promise<Grant | undefined>;
    /** Fault `grant.used` when another operation took it. */
    use(id: string, operationId: OperationId): Promise<void>;
  };
  readonly reservations: {
    add(reservation: Reservation): Promise<void>;
    list(): Promise<readonly Reservation[]>;
    removeOf(operationId: OperationId): Promise<void>;
  };
  readonly operations: {
    put(operation: Operation): Promise<void>;
    get(id: string): Promise<Operation | undefined>;
    list(filter: {
      states?: readonly Operation["state"][];
      machineId?: MachineId;
      environmentId?: EnvironmentId;
      requestId?: string;
      limit?: number;
    }): Promise<readonly Operation[]>;
  };
  readonly steps: {
    put(step: StepRecord): Promise<void>;
    ofOperation(operationId: OperationId): Promise<readonly StepRecord[]>;
  };
  readonly adaptations: {
    put(adaptation: Adaptation): Promise<void>;
    get(id: string): Promise<Adaptation | undefined>;
    /** Active ones only; an ended adaptation is removed here and lives on in events. */
    list(filter?: {
      environmentId?: EnvironmentId;
      machineId?: MachineId;
      linkId?: string;
    }): Promise<readonly Adaptation[]>;
    remove(id: string): Promise<void>;
  };
  readonly holds: {
    list(): Promise<readonly Hold[]>;
    put(hold: Hold): Promise<void>;
    remove(scope: Hold["scope"]): Promise<void>;
  };
  /** What people said about hosts; at most one of a kind a host. */
  readonly hostMarks: {
    list(): Promise<readonly HostMark[]>;
    put(mark: HostMark): Promise<void>;
    remove(hostId: HostId, kind: HostMark["kind"]): Promise<void>;
  };
  readonly approvals: {
    put(approval: Approval): Promise<void>;
    get(requestId: string): Promise<Approval | undefined>;
    /** The one that waits for this very ask. */
    findPending(askDigest: Digest): Promise<Approval | undefined>;
    /** Newest first. */
    list(filter: {
      environmentId?: EnvironmentId;
      states?: readonly ApprovalState[];
      limit?: number;
    }): Promise<readonly Approval[]>;
  };
  /** Standing ones; a lifted or done recall lives on in events. */
  readonly recalls: {
    put(recall: Recall): Promise<void>;
    get(id: string): Promise<Recall | undefined>;
    list(): Promise<readonly Recall[]>;
    remove(id: string): Promise<void>;
  };
  /** Proposed, approved and expired ones, until somebody removes them. */
  readonly exemptions: {
    put(exemption: Exemption): Promise<void>;
    get(id: string): Promise<Exemption | undefined>;
    list(): Promise<readonly Exemption[]>;
    remove(id: string): Promise<void>;
  };
  /** What came with grants; kept for good. */
  readonly obligations: {
    put(owed: OwedObligation): Promise<void>;
    get(id: string): Promise<OwedObligation | undefined>;
    /** Newest first. */
    list(filter: {
      states?: readonly ObligationState[];
      requestId?: string;
      environmentId?: EnvironmentId;
      limit?: number;
    }): Promise<readonly OwedObligation[]>;
  };
  /** Hosts' ends of the encrypted mesh between sites; by host id. */
  readonly tunnelEnds: {
    list(): Promise<readonly TunnelEnd[]>;
    put(end: TunnelEnd): Promise<void>;
    remove(hostId: HostId): Promise<void>;
  };
  readonly events: {
    append(event: NewEvent): Promise<Event>;
    since(seq: number, limit: number): Promise<readonly Event[]>;
    last(): Promise<number>;
  };
  /** Calls of the API that came with a key; the first event of one notes it (ports/calls.ts). */
  readonly calls: {
    get(id: string): Promise<KeptCall | undefined>;
    /** Keeps which events are its own. */
    put(call: Omit<KeptCall, "events">): Promise<void>;
    remove(id: string): Promise<void>;
    removeBefore(atMs: Ms): Promise<void>;
  };
  /** Addresses given and not free yet: not reused while a lease lives. */
  readonly addresses: {
    list(
      networkId: string,
    ): Promise<readonly { address: string; machineId: MachineId; freeFromMs?: Ms | undefined }[]>;
    put(row: {
      networkId: string;
      address: string;
      machineId: MachineId;
      freeFromMs?: Ms | undefined;
    }): Promise<void>;
    remove(networkId: string, address: string): Promise<void>;
  };
  /** The chain of evidence; written only by evidence/record.ts, in the transaction of the event. */
  readonly evidence: {
    append(entry: EvidenceEntry): Promise<void>;
    last(): Promise<EvidenceEntry | undefined>;
    since(seq: number, limit: number): Promise<readonly EvidenceEntry[]>;
  };
}

/** What became of a call that came with a key. */
export interface KeptCall {
  readonly id: string;
  /** Of what was asked. */
  readonly digest: Digest;
  readonly atMs: Ms;
  /** First and last that it appended; undefined: none. */
  readonly events: { readonly first: number; readonly last: number } | undefined;
  /** JSON text; null: nothing was said, or nothing that may be written down. Undefined: not known. */
  readonly told: { readonly status: number; readonly body: string | null } | undefined;
}

/** One link of the chain; `hash` covers all other fields, `previousHash` the link before. */
export interface EvidenceEntry {
  /** From 1, without gaps. */
  readonly seq: number;
  readonly eventSeq: number;
  readonly atMs: Ms;
  readonly kind: string;
  /** Digest of the event and, for requests, decisions and plans, of the whole record. */
  readonly bodyDigest: Digest;
  readonly previousHash: Digest;
  readonly hash: Digest;
}

export interface Store {
  /** All or nothing; serialised. Never call the store (only `journal`) inside `work`, never await the world in it. */
  transaction<T>(work: (journal: Journal) => Promise<T>): Promise<T>;
  /** Reads of a consistent moment. */
  read<T>(work: (journal: Journal) => Promise<T>): Promise<T>;
  /** Called after each commit that appended events, with the last sequence. */
  onCommit(listener: (lastSeq: number) => void): () => void;
  close(): Promise<void>;
}
