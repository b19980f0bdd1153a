/**
 * Holds: "no new adaptation" for everything, a site or an environment, until lifted or over. Running operations and
 * machines are untouched, what automation was granted and has not begun is cancelled; giving back goes on. The gate checks
 * holds in code, whatever any bundle says: an emergency stop must not depend on a rule. Knows no HTTP; the API and the
 * command place and lift them here.
 */
import type { Facts, Hold } from "#model/facts";
import type { Operation, Plan } from "#model/plan";
import type { Request } from "#model/request";
import type { Ms, OperationId, SiteId } from "#model/units";
import { onlyLowers } from "#planner/lowering";
import type { Clock } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

/** The active hold of exactly this scope. */
export function holdOn(holds: readonly Hold[], scope: Hold["scope"], nowMs: Ms): Hold | undefined {
  return holds.find((hold) => isActive(hold, nowMs) && sameScope(hold.scope, scope));
}

export function isActive(hold: Hold, nowMs: Ms): boolean {
  return hold.untilMs === undefined || nowMs < hold.untilMs;
}

/** The first active hold that stops a request about this environment and these sites; undefined when none does. */
export function holdAgainst(
  request: Pick<Request, "environmentId">,
  siteIds: readonly string[],
  facts: Pick<Facts, "holds" | "nowMs">,
): Hold | undefined {
  return facts.holds.find(
    (hold) => isActive(hold, facts.nowMs) && concerns(hold.scope, request, siteIds),
  );
}

function concerns(
  scope: Hold["scope"],
  { environmentId }: Pick<Request, "environmentId">,
  siteIds: readonly SiteId[],
): boolean {
  if (scope === "everything") return true;
  if ("siteId" in scope) return siteIds.includes(scope.siteId);
  return scope.environmentId === environmentId;
}

/**
 * Durable when it resolves. A second hold of the same scope replaces the first. What is cancelled by it ends when
 * operations are kicked.
 */
export async function placeHold(
  world: { readonly store: Store; readonly clock: Clock },
  asked: {
    readonly scope: Hold["scope"];
    readonly by: string;
    readonly reason: string;
    readonly forMs?: Ms | undefined;
  },
): Promise<Hold> {
  const sinceMs = world.clock.nowMs();
  const hold: Hold = {
    scope: asked.scope,
    by: asked.by,
    reason: asked.reason,
    sinceMs,
    ...(asked.forMs === undefined ? {} : { untilMs: sinceMs + asked.forMs }),
  };
  await world.store.transaction(async (journal) => {
    await journal.holds.put(hold);
    const cancelled = await cancelQueued(journal, hold);
    await journal.events.append({
      kind: "hold.changed",
      atMs: sinceMs,
      ...environmentOf(asked.scope),
      data: { active: true, ...hold, ...(cancelled.length === 0 ? {} : { cancelled }) },
    });
  });
  return hold;
}

/** Lifting what is not held is no error: false. */
export async function liftHold(
  world: { readonly store: Store; readonly clock: Clock },
  scope: Hold["scope"],
  by: string,
): Promise<boolean> {
  return await world.store.transaction(async (journal) => {
    const nowMs = world.clock.nowMs();
    const wasHeld = holdOn(await journal.holds.list(), scope, nowMs) !== undefined;
    await journal.holds.remove(scope);
    await journal.events.append({
      kind: "hold.changed",
      atMs: world.clock.nowMs(),
      ...environmentOf(scope),
      data: { active: false, scope, by },
    });
    return wasHeld;
  });
}

/** What was granted to automation and waits for its turn: with a long queue a hold would stop nothing for minutes. */
async function cancelQueued(journal: Journal, { scope }: Hold): Promise<readonly OperationId[]> {
  const cancelled: OperationId[] = [];
  for (const operation of await journal.operations.list({ states: ["pending"] })) {
    if (operation.kind !== "adapt" || operation.cancelRequested) continue;
    const request = await journal.requests.get(operation.requestId);
    const plan = await journal.plans.get(operation.planId);
    if (request === undefined || plan === undefined || onlyLowers(plan.actions)) continue;
    if (request.subject.type === "operator" || request.subject.type === "stack") continue;
    if (!concerns(scope, operation, await sitesOf(journal, operation, plan))) continue;
    await journal.operations.put({ ...operation, cancelRequested: true });
    cancelled.push(operation.id);
  }
  return cancelled;
}

/** Where its machines are, and where they would be. */
async function sitesOf(
  journal: Journal,
  { machineIds }: Operation,
  { actions }: Plan,
): Promise<readonly SiteId[]> {
  const machines = await Promise.all(machineIds.map((id) => journal.objects.get("machine", id)));
  const comingTo = actions.flatMap((action) =>
    action.kind === "move_machine"
      ? [action.toSiteId]
      : action.kind === "create_machine"
        ? [action.siteId]
        : [],
  );
  return [...machines.flatMap((machine) => machine?.effective.siteId ?? []), ...comingTo];
}

function environmentOf(scope: Hold["scope"]): { environmentId?: string } {
  return typeof scope === "object" && "environmentId" in scope
    ? { environmentId: scope.environmentId }
    : {};
}

function sameScope(left: Hold["scope"], right: Hold["scope"]): boolean {
  if (left === "everything" || right === "everything") return left === right;
  if ("siteId" in left) return "siteId" in right && left.siteId === right.siteId;
  return "environmentId" in right && left.environmentId === right.environmentId;
}
