/** The one feed: SSE, evidence and write-back read it; nothing else tells of a change. */
import type { EnvironmentId, MachineId, Ms } from "#model/units";

export type EventKind =
  | "object.changed"
  | "object.deleted"
  | "request.received"
  | "request.refused"
  | "decision.made"
  | "plan.made"
  | "grant.issued"
  | "operation.started"
  | "operation.progress"
  | "operation.ended"
  | "step.started"
  | "step.ended"
  | "adaptation.started"
  | "adaptation.ended"
  | "hold.changed"
  | "approval.asked"
  | "approval.voted"
  | "approval.changed"
  | "approval.ended"
  | "recall.changed"
  | "recall.overdue"
  | "exemption.changed"
  | "obligation.owed"
  | "obligation.told"
  | "obligation.ended"
  | "glass.broken"
  | "audit.finding"
  | "host.state"
  | "host.marked"
  | "machine.entered"
  | "machine.pass"
  | "tunnel.key"
  | "tunnel.clear"
  | "moves.clear"
  | "tunnel.rotated"
  | "host.differs"
  | "shepherd.started"
  | "policy.activated"
  | "policy.refused"
  | "policy.tried"
  | "evidence.conflict"
  /** A named person owned up to an old database that was put back. */
  | "evidence.restored";

export interface NewEvent {
  readonly kind: EventKind;
  readonly atMs: Ms;
  readonly environmentId?: EnvironmentId | undefined;
  readonly machineId?: MachineId | undefined;
  /** Plain data of the kind; ids, numbers, codes. */
  readonly data: Readonly<Record<string, unknown>>;
}
/** `seq` grows by one, is never reused, and is the SSE event id. */
export interface Event extends NewEvent {
  readonly seq: number;
}
