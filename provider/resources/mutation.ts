/**
 * One change at the shepherd, as Terraform's apply needs it: send, wait for people where they must agree, follow the
 * operation, report what went wrong on the attribute that it concerns. The operation belongs to the shepherd: it outlives
 * a Terraform that is killed; one that is interrupted asks it to cancel, and tells what was reached.
 */
import { type Method, ProblemError, path } from "@drover/shepherd/api/client";
import type { ApprovalView, Mutation, OperationView } from "@drover/shepherd/api/contract";
import type { Work } from "#schema/resource";
import { TimeoutReached } from "#schema/timeouts";
import { startApplying } from "./plan-check.ts";
import {
  type Failing,
  reportApproval,
  reportError,
  reportInterrupted,
  reportOperation,
} from "./problems.ts";
import { progressTeller, show } from "./progress.ts";

/** Longest time that one apply waits where no `timeouts` say otherwise; the operation itself is not ended by it. */
const followMs = 60 * 60 * 1000;
/** After an interrupt: how long an operation may take to be cancelled or to turn out to be finished. */
const cancelMs = 60 * 1000;

/**
 * All but `done` have been reported. refused: nothing was started. failed: the operation ended badly, something may be
 * left. interrupted: it may still go on. `object` is what the shepherd answered before the operation ended.
 */
export type Outcome<View> =
  | { readonly kind: "done"; readonly object: View | null; readonly followed: boolean }
  | { readonly kind: "refused" | "failed" | "interrupted" };

export interface MutationRequest extends Failing {
  readonly method: Method;
  readonly path: string;
  readonly body?: unknown;
}

export async function mutate<View>(work: Work, request: MutationRequest): Promise<Outcome<View>> {
  const { what } = request;
  startApplying(work.client);
  const signal = AbortSignal.any([work.signal, AbortSignal.timeout(followMs)]);
  const seen: Waiting = { operation: null, approval: null };
  try {
    const answer = await granted<View>(work, request, { signal, seen });
    if (answer === undefined) return { kind: "refused" };
    if (seen.operation === null) return { kind: "done", object: answer.object, followed: false };
    return await follow(work, request, {
      signal,
      operation: seen.operation,
      object: answer.object,
    });
  } catch (error) {
    if (signal.aborted) return await breakOff<View>(work, what, seen);
    reportError(work, error, request);
    return { kind: error instanceof ProblemError ? "refused" : "interrupted" };
  }
}

/** What an interrupted wait was for. */
interface Waiting {
  operation: OperationView | null;
  approval: ApprovalView | null;
}

/**
 * Sends the call; where people must agree, waits for them and sends it again, which attaches to what they granted.
 * Undefined after it was reported that they did not.
 */
async function granted<View>(
  work: Work,
  request: MutationRequest,
  { signal, seen }: { readonly signal: AbortSignal; readonly seen: Waiting },
): Promise<Mutation<View> | undefined> {
  const { method, what } = request;
  const send = () =>
    work.client.call<Mutation<View>>(method, request.path, {
      ...(request.body === undefined ? {} : { body: request.body }),
      signal,
    });
  let answer = await send();
  seen.approval = answer.approval ?? null;
  if (seen.approval !== null && answer.operation === null) {
    const { request: id, message } = seen.approval;
    const line = `${what}: request ${id} waits for approval. ${message}`;
    work.log(line, { request: id });
    show(work, line);
    seen.approval = await work.client.waitForApproval(id, { signal });
    if (seen.approval.state !== "approved") {
      reportApproval(work.report, what, seen.approval);
      return undefined;
    }
    show(work, `${what}: request ${id} is approved`);
    const { operation } = seen.approval;
    answer =
      operation === null
        ? await send()
        : { ...answer, operation: await work.client.get(path`/v1/operations/${operation}`) };
  }
  seen.approval = null;
  seen.operation = answer.operation;
  return answer;
}

async function follow<View>(
  work: Work,
  { what }: Pick<MutationRequest, "what">,
  followed: {
    readonly signal: AbortSignal;
    readonly operation: OperationView;
    readonly object: View | null;
  },
): Promise<Outcome<View>> {
  const { operation, object, signal } = followed;
  work.log(`${what}: operation ${operation.id} runs`, { operation: operation.id });
  const onProgress = progressTeller(work, what);
  const ended = await work.client.waitForOperation(operation.id, { signal, onProgress });
  if (ended.state === "succeeded") return { kind: "done", object, followed: true };
  reportOperation(work.report, what, ended);
  return { kind: "failed" };
}

/** The time is over, or the user interrupted: then the operation is asked to cancel, and what it reached is told. */
async function breakOff<View>(work: Work, what: string, seen: Waiting): Promise<Outcome<View>> {
  const { operation, approval } = seen;
  const byUser = isInterrupted(work);
  if (approval !== null) {
    reportApproval(work.report, what, approval);
    return { kind: "refused" };
  }
  if (operation === null || !byUser) {
    reportInterrupted(work.report, { what, operation, byUser });
    return { kind: "interrupted" };
  }
  const signal = AbortSignal.timeout(cancelMs);
  try {
    await work.client.call("POST", path`/v1/operations/${operation.id}/cancel`, { signal });
    show(work, `${what}: operation ${operation.id} was asked to cancel`);
    return await follow<View>(work, { what }, { signal, operation, object: null });
  } catch (error) {
    work.log(`${what}: operation ${operation.id} could not be cancelled: ${String(error)}`);
    reportInterrupted(work.report, { what, operation, byUser });
    return { kind: "interrupted" };
  }
}

/**
 * Waits until nothing works on a machine any more: what an apply that was interrupted or killed has started goes on, and
 * is joined here. False after it was reported that the wait broke off.
 */
export async function joinOperations(
  work: Work,
  machine: { readonly id: string; readonly what: string },
): Promise<boolean> {
  const { id, what } = machine;
  const signal = AbortSignal.any([work.signal, AbortSignal.timeout(followMs)]);
  let joined: OperationView | null = null;
  try {
    const { items } = await work.client.get<{ items: readonly OperationView[] }>("/v1/operations", {
      query: { machine: id, active: "1" },
      signal,
    });
    for (const operation of items) {
      joined = operation;
      work.log(`${what}: operation ${operation.id} is under way, waiting for it`);
      await work.client.waitForOperation(operation.id, {
        signal,
        onProgress: progressTeller(work, `${what}, waiting`),
      });
    }
    return true;
  } catch (error) {
    if (signal.aborted)
      reportInterrupted(work.report, { what, operation: joined, byUser: isInterrupted(work) });
    else reportError(work, error, { what, attributes: [] });
    return false;
  }
}

/** The user's interrupt aborts a verb's signal, and so does its timeout. */
function isInterrupted({ signal }: Pick<Work, "signal">): boolean {
  return signal.aborted && !(signal.reason instanceof TimeoutReached);
}
