/** What the gate does before an operation, for tests of operations alone: journals request, plan and grant, and admits. */
import { digestOf } from "@drover/shepherd/model/canonical";
import type { Operation, OperationKind, Plan, PlanAction } from "@drover/shepherd/model/plan";
import type { Request } from "@drover/shepherd/model/request";
import type { Operations } from "@drover/shepherd/operations/operations";
import type { Clock, Ids } from "@drover/shepherd/ports/clock";
import type { Store } from "@drover/shepherd/ports/store";

export const cost = { durationMs: 1_000, bytes: 0, downtimeMs: 0 };

export async function admitOrder(
  world: {
    readonly operations: Operations;
    readonly store: Store;
    readonly clock: Clock;
    readonly ids: Ids;
  },
  order: {
    readonly kind: OperationKind;
    readonly environmentId: string;
    readonly actions: readonly PlanAction[];
    readonly request?: Partial<Request>;
    /** Of a decision that the test has journaled, with limits. */
    readonly decisionId?: string | undefined;
  },
): Promise<Operation> {
  const { operations, store, clock, ids } = world;
  const { kind, environmentId, actions } = order;
  const request: Request = {
    id: ids.next(),
    kind: kind !== "adapt" ? kind : actions.some(isMove) ? "move" : "resize",
    environmentId,
    subject: { type: "operator", name: "local-root", roles: ["operator"] },
    machines: [],
    links: [],
    reason: "test",
    idempotencyKey: ids.next(),
    receivedAtMs: clock.nowMs(),
    ...order.request,
  };
  const plan: Plan = {
    id: ids.next(),
    digest: digestOf(actions),
    requestId: request.id,
    environmentId,
    actions,
    cost,
    explanation: { chosen: [], runnersUp: [], refusedBy: {} },
    createdAtMs: clock.nowMs(),
  };
  const grant = {
    id: ids.next(),
    kind: "decision" as const,
    planId: plan.id,
    planDigest: plan.digest,
    decisionId: order.decisionId ?? "decision",
    expiresAtMs: clock.nowMs() + 60_000,
  };
  return store.transaction(async (journal) => {
    await journal.requests.add(request);
    await journal.plans.add(plan);
    await journal.grants.add(grant);
    return operations.admit(journal, { grant, plan, request, kind });
  });
}

function isMove({ kind }: PlanAction): boolean {
  return kind === "move_machine";
}
