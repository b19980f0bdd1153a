/**
 * Holds: "no new adaptation" for everything, a site or an environment, until lifted or over. Running operations and
 * machines are untouched; giving back goes on. The gate checks holds in code, whatever any bundle says: an emergency
 * stop must not depend on a rule. Knows no HTTP; the API and the command place and lift them here.
 */
import type { Facts, Hold } from "#model/facts";
import type { Request } from "#model/request";
import type { Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";

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
  return facts.holds.find((hold) => {
    if (!isActive(hold, facts.nowMs)) return false;
    if (hold.scope === "everything") return true;
    if ("siteId" in hold.scope) return siteIds.includes(hold.scope.siteId);
    return hold.scope.environmentId === request.environmentId;
  });
}

/** Durable when it resolves. A second hold of the same scope replaces the first. */
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
    await journal.events.append({
      kind: "hold.changed",
      atMs: sinceMs,
      ...environmentOf(asked.scope),
      data: { active: true, ...hold },
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
