/**
 * Moves of the last day in the whole fleet: what rules about disruption and moved bytes count. The journal is the truth;
 * what has ended does not change any more and is kept here, so that a decision reads only what is new or still runs.
 */
import type { RecentMove } from "#model/facts";
import type { Operation, Plan, PlanAction } from "#model/plan";
import type { Ms, OperationId } from "#model/units";
import type { Journal } from "#ports/store";

export const dayMs: Ms = 86_400_000;
/** Operations read once at start. More in a day than this would be six a minute, all day. */
const maxAtStart = 8_192;
/** Newest operations read at each decision: the gate starts them one at a time, so no more can have begun in between. */
const maxNew = 32;

type Move = Extract<PlanAction, { kind: "move_machine" }>;

export class Moves {
  readonly #ended = new Map<OperationId, readonly RecentMove[]>();
  readonly #open = new Set<OperationId>();
  #isLoaded = false;

  /** Oldest first. Forgets what is older than a day. */
  async recent(journal: Journal, nowMs: Ms): Promise<readonly RecentMove[]> {
    const limit = this.#isLoaded ? maxNew : maxAtStart;
    const newest = await journal.operations.list({ limit });
    const known = new Set(newest.map(({ id }) => id));
    const stillOpen: Operation[] = [];
    for (const id of this.#open) {
      const operation = known.has(id) ? undefined : await journal.operations.get(id);
      if (operation !== undefined) stillOpen.push(operation);
    }
    this.#isLoaded = true;
    const running: RecentMove[] = [];
    for (const operation of [...stillOpen, ...newest]) {
      if (this.#ended.has(operation.id) || operation.createdAtMs <= nowMs - dayMs) continue;
      const moves = await movesOfOperation(journal, operation);
      if (operation.endedAtMs === undefined) {
        running.push(...moves);
        this.#open.add(operation.id);
      } else {
        this.#ended.set(operation.id, moves);
        this.#open.delete(operation.id);
      }
    }
    for (const [id, [first]] of this.#ended) {
      // an operation without moves is forgotten when it is no longer among the newest
      const isOld = first === undefined ? !known.has(id) : first.atMs <= nowMs - dayMs;
      if (isOld) this.#ended.delete(id);
    }
    return [...[...this.#ended.values()].flat(), ...running].toSorted(
      (left, right) => left.atMs - right.atMs,
    );
  }
}

async function movesOfOperation(journal: Journal, operation: Operation): Promise<RecentMove[]> {
  if (operation.state === "cancelled" && operation.measured === undefined) return [];
  const plan = await journal.plans.get(operation.planId);
  const actions = plan?.actions.filter((action): action is Move => action.kind === "move_machine");
  if (plan === undefined || actions === undefined || actions.length === 0) return [];
  const request = await journal.requests.get(operation.requestId);
  const owner = await ownerAtThatTime(journal, operation);
  const found: RecentMove[] = [];
  for (const action of actions) {
    const record = await journal.objects.get("machine", action.machineId);
    found.push({
      operationId: operation.id,
      environmentId: operation.environmentId,
      owner,
      machineId: action.machineId,
      machineName: record?.spec.name ?? action.machineId,
      cause: request?.subject.type ?? "shepherd",
      atMs: operation.createdAtMs,
      fromSiteId: action.fromSiteId,
      toSiteId: action.toSiteId,
      ...costOf(action, plan, operation),
      outcome: outcomeOf(operation),
    });
  }
  return found;
}

/** Of the decision's own words: an environment that was destroyed must not take its owner's account with it. */
async function ownerAtThatTime(journal: Journal, operation: Operation): Promise<string> {
  for (const { input } of await journal.decisions.ofRequest(operation.requestId)) {
    const { environment } = (input ?? {}) as { environment?: { owner?: unknown } };
    if (typeof environment?.owner === "string") return environment.owner;
  }
  const record = await journal.objects.get("environment", operation.environmentId);
  return record?.spec.owner ?? "";
}

/** The operation is measured as a whole: its moves share it as they were predicted. */
function costOf(
  action: Move,
  plan: Plan,
  { measured }: Operation,
): Pick<RecentMove, "bytes" | "downtimeMs"> {
  if (measured === undefined) {
    return { bytes: action.cost.bytes, downtimeMs: action.cost.downtimeMs };
  }
  const part = plan.cost.bytes === 0 ? 0 : action.cost.bytes / plan.cost.bytes;
  return { bytes: Math.round(measured.bytes * part), downtimeMs: measured.downtimeMs };
}

function outcomeOf({ state }: Operation): RecentMove["outcome"] {
  if (state === "succeeded" || state === "partial") return "done";
  return state === "failed" || state === "cancelled" ? "failed" : "running";
}
