/**
 * What the API needs from the other rooms, no more: the doors that main.ts joins. Routes see nothing else.
 */
import type { Logger } from "pino";
import type { TokenStore } from "#api/access";
import type { BlobStore } from "#api/blobs";
import type { Turns } from "#api/turns";
import type { Operation, Plan } from "#model/plan";
import type { Decision, Request } from "#model/request";
import type { Ms, OperationId, SiteId } from "#model/units";
import type { HostMarks } from "#operations/host-marks";
import type { Drains } from "#policy/drains";
import type { Janitor } from "#policy/janitor";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";
import type { Observer } from "#sensing/observer";

export interface GateAnswer {
  readonly decision: Decision;
  readonly plan: Plan | undefined;
  readonly operation: Operation | undefined;
}
/** The one gate (policy/gate.ts). */
export interface ApiGate {
  submit(request: Request): Promise<GateAnswer>;
  preview(request: Request): Promise<GateAnswer>;
}
/** Following and stopping what already runs (operations/operations.ts). */
export interface ApiOperations {
  /** Resolves when it ended, at the timeout, or when the signal is aborted. */
  wait(id: OperationId, timeoutMs: Ms, signal?: AbortSignal): Promise<Operation>;
  cancel(id: OperationId): Promise<Operation>;
  /** Asks a stuck one again. */
  retry(id: OperationId): Promise<Operation>;
}
/** What people say about hosts, and what follows. */
export interface ApiHostCare {
  readonly marks: HostMarks;
  readonly drains: Drains;
  readonly janitor: Janitor;
  /** Operations that wait for a host look again. */
  kick(): void;
}
/** What hosts last said (sensing/observer.ts). */
export type ApiSensing = Pick<Observer, "observedMachine" | "refresh" | "sites">;
/** The evidence log (evidence/). */
export interface ApiEvidence {
  verify(): Promise<{
    readonly ok: boolean;
    readonly entries: number;
    readonly head: string;
    readonly brokenAt: number | undefined;
  }>;
  list(since: number, limit: number): Promise<readonly unknown[]>;
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
  readonly tokens: TokenStore;
  /** Shared by all listeners. */
  readonly turns: Turns;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
  readonly siteIds: readonly SiteId[];
  readonly world: "libvirt" | "simulated";
  readonly version: string;
}
