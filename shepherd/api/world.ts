/**
 * What the API needs from the other rooms, no more: the doors that main.ts joins. Routes see nothing else.
 */
import type { Duplex } from "node:stream";
import type { Logger } from "pino";
import type { TokenStore } from "#api/access";
import type { BlobStore } from "#api/blobs";
import type { KeyedCalls } from "#api/keyed-calls";
import type { Passes } from "#api/passes";
import type { ReadSources } from "#api/rule-source";
import type { Turns } from "#api/turns";
import type { Evidence } from "#evidence/evidence";
import type { GuestDoor } from "#intake/guest-door";
import type { MachineBlocker } from "#model/blocker";
import type { Operation, Plan } from "#model/plan";
import type { Consent } from "#model/request";
import type { HostId, MachineId, Ms, OperationId, SiteId } from "#model/units";
import type { Generations } from "#opa/generations";
import type { Policies } from "#opa/policies";
import type { HostMarks } from "#operations/host-marks";
import type { Paths } from "#operations/paths";
import type { Audit } from "#policy/audit";
import type { Engines } from "#policy/consult";
import type { Drains } from "#policy/drains";
import type { Gate } from "#policy/gate";
import type { Janitor } from "#policy/janitor";
import type { Clock, Ids } from "#ports/clock";
import type { LanDoor } from "#ports/host";
import type { Store } from "#ports/store";
import type { Observer } from "#sensing/observer";
import type { Snapshots } from "#store/snapshot-files";
import type { Fleet } from "#worlds/fleet";

export type { GateAnswer } from "#policy/gate";
/** The one gate (policy/gate.ts). */
export type ApiGate = Omit<Gate, "settleApprovals">;
/** Following and stopping what already runs (operations/operations.ts). */
export interface ApiOperations {
  /** Resolves when it ended, at the timeout, or when the signal is aborted. */
  wait(id: OperationId, timeoutMs: Ms, signal?: AbortSignal): Promise<Operation>;
  cancel(id: OperationId): Promise<Operation>;
  /** What stands in the way of a plan's moves, asked of the hosts; changes nothing. Absent: nobody can be asked. */
  blockersOf?(plan: Plan): Promise<readonly MachineBlocker[]>;
  /** Asks a stuck one again. */
  retry(id: OperationId): Promise<Operation>;
  /** Something changed: what may begin or must end does so. */
  kick(): void;
}
/** The sites and hosts there are (worlds/fleet.ts). */
export type ApiFleet = Pick<
  Fleet,
  | "site"
  | "isSiteInFile"
  | "enterSite"
  | "leaveSite"
  | "isInFile"
  | "hosts"
  | "admit"
  | "change"
  | "release"
>;
/** What people say about hosts, and what follows. */
export interface ApiHostCare {
  readonly marks: HostMarks;
  readonly drains: Drains;
  readonly janitor: Janitor;
  /** Operations that wait for a host look again. */
  kick(): void;
}
/** The encrypted mesh between sites (operations/tunnels.ts). */
export interface ApiTunnels {
  rotate(): Promise<{ readonly generation: number; readonly hostIds: readonly string[] }>;
}
/** What hosts last said (sensing/observer.ts). */
export type ApiSensing = Pick<
  Observer,
  "answers" | "foreign" | "maxAgeMs" | "observedMachine" | "refresh" | "sites"
>;
/** The evidence log (evidence/). */
export type ApiEvidence = Pick<Evidence, "verify" | "list" | "acceptRestore">;

/** Policies of all owners (opa/policies.ts). */
export type ApiPolicies = Pick<
  Policies,
  | "add"
  | "remove"
  | "states"
  | "state"
  | "activate"
  | "rollback"
  | "trials"
  | "shadow"
  | "endShadow"
  | "verifyReplay"
>;

/** What decisions were made of, and the very policies that made them. */
export interface ApiSnapshots {
  read: Snapshots["read"];
  policy(
    of: Pick<Consent, "owner" | "policyDigest" | "dataDigest">,
  ): ReturnType<Generations["decided"]>;
}

export interface ApiWorld {
  readonly store: Store;
  readonly gate: ApiGate;
  readonly operations: ApiOperations;
  readonly sensing: ApiSensing;
  /** Absent: the routes about hosts are not there. */
  readonly hostCare?: ApiHostCare | undefined;
  /** Absent: the routes of the log are not there. */
  readonly evidence?: ApiEvidence | undefined;
  /** Absent: the routes about policies are not there. */
  readonly policies?: ApiPolicies | undefined;
  /** Absent: decisions cannot be taken along. */
  readonly snapshots?: ApiSnapshots | undefined;
  /** Whose policies are asked outside of the gate: for roles, and for what would be. */
  readonly engines: Engines;
  /** Standing state against the policies of now. */
  readonly audit: Audit;
  /** Absent: explanations name rules without their lines. */
  readonly ruleSources?: ReadSources | undefined;
  /** Hosts that come and go while the shepherd runs. Absent: its routes are not there. */
  readonly fleet?: ApiFleet | undefined;
  /** Proves what paths carry before a network is admitted. Absent: nothing is measured (a world of records alone). */
  readonly paths?: Paths | undefined;
  /** Ways into LANs. Absent: its routes are not there. */
  readonly lanDoor?: LanDoor | undefined;
  /** The mesh between sites. Absent: its routes are not there. */
  readonly tunnels?: ApiTunnels | undefined;
  readonly tokens: TokenStore;
  /** Shared by all listeners, as all that follow. */
  readonly passes: Passes;
  /** Guests that ask over HTTP. */
  readonly guestDoor: GuestDoor;
  /** Serial consoles of machines, on the host where each runs. */
  readonly consoles: { open(hostId: HostId, id: MachineId): Promise<Duplex> };
  /** Shared by all listeners. */
  readonly turns: Turns;
  /** Calls that came with a key; shared by all listeners, because a client may come back by another. */
  readonly calls: KeyedCalls;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
  readonly siteIds: readonly SiteId[];
  /** What site owners let stacks patch in their machines' XML; absent: nothing anywhere. */
  readonly rawXmlPaths?: Readonly<Record<SiteId, readonly string[]>> | undefined;
  readonly world: "libvirt" | "simulated";
  readonly version: string;
}
