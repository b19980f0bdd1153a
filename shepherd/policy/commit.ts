/**
 * Makes a judged request durable in one transaction: its decisions, and on a yes plan, grant, reservations, operation and
 * the new spec; where people must agree, the approval that waits for them. Decides nothing: judge.ts did. Starts nothing
 * either: gate.ts, which runs it in its turn, kicks the operation once it is durable.
 */
import type { Approval, SignedBreakGlass } from "#model/consent";
import type { NewEvent } from "#model/event";
import type { Operation, OperationKind, Plan } from "#model/plan";
import type { Decision, Grant, Request } from "#model/request";
import type { Ms } from "#model/units";
import { end, newApproval, renew, withdrawOlder } from "#policy/approvals";
import { isDeclaredAsThen, isStill, operationKindOf } from "#policy/commit-checks";
import type { Judged, JudgeTerms } from "#policy/judge";
import { owe } from "#policy/obligations";
import { heldNow } from "#policy/refusals";
import type { Clock, Ids } from "#ports/clock";
import type { Journal, Store } from "#ports/store";
import { inChildSpan, traceparent } from "#ports/tracing";

/** Takes an operation on, in the transaction of its grant. */
export interface Admission {
  admit(
    journal: Journal,
    order: {
      readonly grant: Grant;
      readonly plan: Plan;
      readonly request: Request;
      readonly kind: OperationKind;
      readonly traceparent?: string | undefined;
    },
  ): Promise<Operation>;
}
export interface CommitWorld {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly operations: Admission;
}
export interface CommitOrder {
  readonly request: Request;
  readonly judged: Judged;
  readonly terms: JudgeTerms;
  /** The document that broke the glass. */
  readonly signed?: SignedBreakGlass | undefined;
}
export interface Committed {
  /** Undefined when nothing was granted. */
  readonly operation: Operation | undefined;
  readonly approval: Approval | undefined;
}
type EventMaker = (kind: NewEvent["kind"], data: Readonly<Record<string, unknown>>) => NewEvent;

/** Undefined: the world has changed since it was judged; decide again. */
export async function commit(
  world: CommitWorld,
  order: CommitOrder,
): Promise<Committed | undefined> {
  const { store, operations } = world;
  const { request, judged, terms, signed } = order;
  const decision = last(judged.decisions);
  const { plan, grant, granted } = judged;
  const words = { request: request.id, decision: decision.id, plan: plan?.id };
  const event: EventMaker = (kind, data) => eventOf(request, world.clock.nowMs(), { kind, data });
  // Outside of the write: what is done about an ask hangs below the ask.
  const follow = { traceparent: traceparent() };
  const write = <T>(work: (journal: Journal) => Promise<T>) =>
    inChildSpan("journal", words, () => store.transaction(work));
  return await write(async (journal) => {
    if (plan !== undefined && !(await isStill(journal, request, judged.facts))) return undefined;
    // Whoever was told that nothing new begins must not see begin what was being judged meanwhile.
    if (grant?.kind === "decision") {
      const holds = await journal.holds.list();
      if (heldNow(request, { ...judged.facts, holds }) !== undefined) return undefined;
    }
    const waited = terms.approved && (await journal.approvals.get(request.id));
    // Rejected, withdrawn or carried out by somebody else in this very moment: nothing more is to be done.
    if (waited !== undefined && waited.state !== "pending") {
      return { operation: undefined, approval: waited };
    }
    for (const one of judged.decisions) {
      await journal.decisions.add(one);
      const { id, point, effect, code } = one;
      await journal.events.append(event("decision.made", { decisionId: id, point, effect, code }));
    }
    if (plan !== undefined && (await journal.plans.get(plan.id)) === undefined) {
      await journal.plans.add(plan);
      const { id: planId, digest } = plan;
      await journal.events.append(event("plan.made", { planId, digest }));
    }
    if (plan === undefined || grant === undefined) {
      return {
        operation: undefined,
        approval: await awaitPeople(journal, order, event, waited),
      };
    }
    if (waited !== undefined && !isDeclaredAsThen(waited, request, judged.facts)) {
      const outcome = "what it is about was declared anew meanwhile; ask again";
      const atMs = decision.decidedAtMs;
      return {
        operation: undefined,
        approval: await end(journal, waited, { state: "denied", outcome, atMs }),
      };
    }
    await journal.grants.add(grant);
    const { id: planId, digest } = plan;
    await journal.events.append(event("grant.issued", { grantId: grant.id, planId, digest }));
    if (signed !== undefined) {
      await journal.events.append(
        event("glass.broken", { decisionId: decision.id, ...signed.document }),
      );
    }
    const kind = operationKindOf(request, grant, judged.facts);
    const admitted = { grant, plan, request: granted, kind, ...follow };
    const operation = await operations.admit(journal, admitted);
    if (grant.kind === "decision") {
      const { ids, clock } = world;
      await owe(journal, { request, decision, operation, ids, nowMs: clock.nowMs() });
    }
    const approval =
      waited &&
      (await end(journal, waited, {
        state: "approved",
        outcome: decision.message,
        atMs: decision.decidedAtMs,
        operationId: operation.id,
      }));
    if (request.subject.type === "stack") {
      await withdrawOlder(journal, request, decision.decidedAtMs);
    }
    return { operation, approval };
  });
}

/** What becomes of the approval when nothing was granted: asked for, renewed for another plan, or over. */
async function awaitPeople(
  journal: Journal,
  { request, judged }: CommitOrder,
  event: EventMaker,
  waited: Approval | undefined,
): Promise<Approval | undefined> {
  const decision = last(judged.decisions);
  const { plan, facts } = judged;
  if (decision.effect !== "approve" || plan === undefined) {
    if (waited === undefined) return undefined;
    const outcome = `approved, but denied by now: ${decision.message}`;
    return await end(journal, waited, { state: "denied", outcome, atMs: decision.decidedAtMs });
  }
  if (waited !== undefined) return await renew(journal, waited, { decision, plan });
  const approval = newApproval({ request, decision, plan, facts });
  await journal.approvals.put(approval);
  const { needs, wantedBy, planDigest, expiresAtMs } = approval;
  await journal.events.append(
    event("approval.asked", { needs, wantedBy, planDigest, expiresAtMs }),
  );
  if (request.subject.type === "stack") {
    await withdrawOlder(journal, request, decision.decidedAtMs);
  }
  return approval;
}

/** An event of a request, with what everybody who reads events looks for. */
export function eventOf(
  request: Request,
  atMs: Ms,
  { kind, data }: Pick<NewEvent, "kind" | "data">,
): NewEvent {
  const [machine] = request.machines;
  return {
    kind,
    atMs,
    environmentId: request.environmentId,
    ...(machine === undefined ? {} : { machineId: machine.machineId }),
    data: { requestId: request.id, subject: request.subject, ...data },
  };
}

/** The one that stands. */
export function last(decisions: readonly Decision[]): Decision {
  const decision = decisions.at(-1);
  if (decision === undefined) throw new Error("a judged request has a decision");
  return decision;
}
