/**
 * Approvals as records: when one is asked for, what a vote does to it, what voids it, when it ends. Works inside the
 * caller's transaction and starts nothing; gate.ts decides again once enough people said yes.
 */

import { digestOf } from "#model/canonical";
import type { Approval, ApprovalState, Vote } from "#model/consent";
import type { NewEvent } from "#model/event";
import type { Facts } from "#model/facts";
import { Fault } from "#model/fault";
import { nameOfLink } from "#model/objects";
import type { Plan, PlanAction } from "#model/plan";
import type { Decision, Request } from "#model/request";
import type { Digest, Ms } from "#model/units";
import {
  counts,
  demandsOf,
  demandText,
  isAsker,
  isMet,
  personOf,
  wantedOf,
} from "#policy/approvers";
import type { Clock } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

/** A working day: who is to decide may be asleep, and a plan is made anew when the world has changed anyway. */
export const approvalMs: Ms = 24 * 3_600_000;
/** The asker's own words, and what they declare: the same ask again finds the approval that waits. */
export function askDigestOf(request: Request): Digest {
  const { subject, kind, environmentId, machines, links, group, leaseMs, update } = request;
  const declared = request.declares;
  // A machine that is to be created has a new id each time it is declared; its name stays.
  const names = new Map<string, string>(
    [...(declared?.machines ?? [])].map(({ id, spec }) => [id, spec.name]),
  );
  const linkNames = new Map<string, string>(
    [...(declared?.links ?? [])].map(({ id, spec }) => [id, nameOfLink(spec)]),
  );
  return digestOf({
    subject: { type: subject.type, name: subject.name, machineId: subject.machineId },
    kind,
    environmentId,
    machines: machines.map((ask) => ({
      ...ask,
      machineId: names.get(ask.machineId) ?? ask.machineId,
    })),
    links: links.map((ask) => ({ ...ask, linkId: linkNames.get(ask.linkId) ?? ask.linkId })),
    group,
    scale: request.scale?.machineCount,
    leaseMs,
    update,
    specs: declared?.machines?.map(({ spec }) => spec),
    linkSpecs: declared?.links?.map(({ spec }) => spec),
    groupSpec: declared?.group?.spec,
  });
}

/** What the ask was made on: a stack that has declared something else since has asked for something else. */
export function specDigestsOf(
  request: Request,
  facts: Pick<Facts, "machines" | "links" | "groups">,
): Readonly<Record<string, Digest>> {
  const { declares, scale } = request;
  const asked = new Set<string | undefined>([
    ...request.machines.map(({ machineId }) => machineId),
    ...request.links.map(({ linkId }) => linkId),
    scale?.groupId,
    declares?.group?.id,
  ]);
  return Object.fromEntries(
    [...facts.machines, ...facts.links, ...facts.groups]
      // What the request itself would create is no word of before.
      .filter(({ id, version }) => asked.has(id) && version > 0)
      .map(({ id, spec }) => [id, digestOf(spec)]),
  );
}

/** True when both plans do the same; what they are predicted to cost may have changed with the load. */
export function samePlan(left: Pick<Plan, "actions">, right: Pick<Plan, "actions">): boolean {
  return digestOf(left.actions.map(withoutCost)) === digestOf(right.actions.map(withoutCost));
}

function withoutCost(action: PlanAction): Omit<PlanAction, "cost"> {
  const { cost: _cost, ...done } = action;
  return done;
}

export function newApproval(of: {
  readonly request: Request;
  readonly decision: Decision;
  readonly plan: Plan;
  readonly facts: Facts;
}): Approval {
  const { request, decision, plan, facts } = of;
  const { needs, by, demands } = wantedOf(decision.findings);
  return {
    requestId: request.id,
    environmentId: request.environmentId,
    decisionId: decision.id,
    planId: plan.id,
    planDigest: plan.digest,
    needs,
    wantedBy: by,
    demands,
    votes: [],
    state: "pending",
    askedAtMs: decision.decidedAtMs,
    expiresAtMs: decision.decidedAtMs + approvalMs,
    askDigest: askDigestOf(request),
    specDigests: specDigestsOf(request, facts),
  };
}

/** Faults `approval.unknown`, `approval.ended`. */
export async function mustBePending(
  journal: Journal,
  requestId: string,
  nowMs: Ms,
): Promise<Approval> {
  const approval = await journal.approvals.get(requestId);
  if (approval === undefined) throw new Fault("approval.unknown", { request: requestId });
  if (approval.state !== "pending" || approval.expiresAtMs <= nowMs) {
    const state = approval.state === "pending" ? "expired" : approval.state;
    throw new Fault("approval.ended", { request: requestId, state });
  }
  return approval;
}

/**
 * Adds one person's word. A no ends it. Faults `approval.own_request`, `approval.plan_changed`, `approval.voted`,
 * `approval.not_counted`, and those of mustBePending.
 */
export async function vote(
  journal: Journal,
  requestId: string,
  given: Vote & { readonly planDigest?: Digest | undefined },
): Promise<Approval> {
  const approval = await mustBePending(journal, requestId, given.atMs);
  const request = await journal.requests.get(requestId);
  const { planDigest, ...word } = given;
  if (request === undefined) throw new Fault("approval.unknown", { request: requestId });
  if (word.verdict === "approve" && isAsker(request, word)) {
    throw new Fault("approval.own_request", { request: requestId, by: word.by });
  }
  if (planDigest !== undefined && planDigest !== approval.planDigest) {
    throw new Fault("approval.plan_changed", {
      request: requestId,
      read: planDigest,
      now: approval.planDigest,
    });
  }
  const person = personOf(word);
  if (word.verdict === "approve" && approval.votes.some((vote) => personOf(vote) === person)) {
    throw new Fault("approval.voted", { request: requestId, by: person, needs: approval.needs });
  }
  const countsFor = demandsOf(approval).filter((demand) => counts(demand, person));
  if (word.verdict === "approve" && countsFor.length === 0) {
    const wanted = demandsOf(approval).map(demandText).join("; ");
    throw new Fault("approval.not_counted", { request: requestId, by: person, wanted });
  }
  const voted: Approval = { ...approval, votes: [...approval.votes, word] };
  await journal.approvals.put(voted);
  await journal.events.append(
    approvalEvent("approval.voted", voted, word.atMs, {
      by: word.by,
      human: word.human,
      countsFor: countsFor.map(({ owner }) => owner),
      verdict: word.verdict,
      reason: word.reason,
      planDigest: voted.planDigest,
    }),
  );
  if (word.verdict === "approve") return voted;
  return await end(journal, voted, {
    state: "rejected",
    outcome: `rejected by ${word.by}: ${word.reason}`,
    atMs: word.atMs,
  });
}

/** True when enough people said yes and nobody has decided on it yet. */
export function isComplete(approval: Approval): boolean {
  return approval.state === "pending" && isMet(demandsOf(approval), approval.votes);
}

/** Another plan would be made now: the votes were for the old one and are void. */
export async function renew(
  journal: Journal,
  approval: Approval,
  now: { readonly decision: Decision; readonly plan: Plan },
): Promise<Approval> {
  const { needs, by, demands } = wantedOf(now.decision.findings);
  const renewed: Approval = {
    ...approval,
    decisionId: now.decision.id,
    planId: now.plan.id,
    planDigest: now.plan.digest,
    needs,
    wantedBy: by,
    demands,
    votes: [],
  };
  await journal.approvals.put(renewed);
  await journal.events.append(
    approvalEvent("approval.changed", renewed, now.decision.decidedAtMs, {
      planDigest: now.plan.digest,
      formerDigest: approval.planDigest,
    }),
  );
  return renewed;
}

export async function end(
  journal: Journal,
  approval: Approval,
  how: {
    readonly state: Exclude<ApprovalState, "pending">;
    readonly outcome: string;
    readonly atMs: Ms;
    readonly operationId?: string | undefined;
  },
): Promise<Approval> {
  const ended: Approval = {
    ...approval,
    state: how.state,
    outcome: how.outcome,
    endedAtMs: how.atMs,
    ...(how.operationId === undefined ? {} : { operationId: how.operationId }),
  };
  await journal.approvals.put(ended);
  await journal.events.append(
    approvalEvent("approval.ended", ended, how.atMs, {
      state: how.state,
      outcome: how.outcome,
      operationId: how.operationId,
    }),
  );
  return ended;
}

/** Older asks of the same declarer about the same things: the newest word counts. */
export async function withdrawOlder(journal: Journal, request: Request, atMs: Ms): Promise<void> {
  const about = aboutOf(request);
  const pending = await journal.approvals.list({
    environmentId: request.environmentId,
    states: ["pending"],
  });
  for (const approval of pending) {
    if (approval.requestId === request.id) continue;
    const older = await journal.requests.get(approval.requestId);
    if (older === undefined || older.subject.name !== request.subject.name) continue;
    if (older.subject.type !== request.subject.type) continue;
    if (!aboutOf(older).some((id) => about.includes(id))) continue;
    await end(journal, approval, {
      state: "withdrawn",
      outcome: `replaced by request ${request.id}`,
      atMs,
    });
  }
}

/** Ids, and for what is to be created its name, which stays from one declaration to the next. */
function aboutOf(request: Request): readonly string[] {
  const { declares } = request;
  return [
    ...request.machines.map(({ machineId }) => `${machineId}`),
    ...request.links.map(({ linkId }) => `${linkId}`),
    ...(declares?.machines ?? []).map(({ spec }) => `machine ${spec.name}`),
    ...(declares?.links ?? []).map(({ spec }) => `link ${nameOfLink(spec)}`),
  ];
}

/** The approval once it is no longer pending, or as it is at the timeout or when the signal is aborted. */
export async function waitForApproval(
  world: { readonly store: Store; readonly clock: Clock },
  requestId: string,
  timeoutMs: Ms,
  signal?: AbortSignal,
): Promise<Approval> {
  const { store, clock } = world;
  const look = async (): Promise<Approval> => {
    const approval = await store.read((journal) => journal.approvals.get(requestId));
    if (approval === undefined) throw new Fault("approval.unknown", { request: requestId });
    return approval;
  };
  const untilMs = clock.nowMs() + timeoutMs;
  for (;;) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const unlisten = store.onCommit(() => resolve());
    const cancelTimer = clock.at(untilMs, resolve);
    signal?.addEventListener("abort", () => resolve(), { once: true });
    try {
      const approval = await look();
      const isOver = clock.nowMs() >= untilMs || signal?.aborted === true;
      if (approval.state !== "pending" || isOver) return approval;
      await promise;
    } finally {
      cancelTimer();
      unlisten();
    }
  }
}

export function approvalEvent(
  kind: NewEvent["kind"],
  approval: Approval,
  atMs: Ms,
  data: Readonly<Record<string, unknown>>,
): NewEvent {
  return {
    kind,
    atMs,
    environmentId: approval.environmentId,
    data: { requestId: approval.requestId, ...data },
  };
}
