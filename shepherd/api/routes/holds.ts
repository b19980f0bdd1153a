/** Holds: an operator's "nothing new" for everything, a site or an environment. What runs goes on, giving back too. */
import { Type } from "typebox";
import type { HoldLifted, HoldView } from "#api/contract";
import { find } from "#api/records";
import { HoldBody } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import type { Hold } from "#model/facts";
import { Fault } from "#model/fault";
import { toWire } from "#model/wire";
import { isActive, liftHold, placeHold } from "#policy/hold";

export function holdRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock } = world;

  /** Environments may be named; a scope that exists nowhere would hold nothing and look as if it did. */
  async function checked(scope: Hold["scope"]): Promise<Hold["scope"]> {
    if (scope === "everything") return scope;
    if ("siteId" in scope) {
      if (!world.siteIds.includes(scope.siteId)) {
        throw new Fault("object.unknown", { kind: "site", id: scope.siteId });
      }
      return scope;
    }
    const { environmentId } = scope;
    const record = await store.read((journal) => find(journal, "environment", environmentId));
    return { environmentId: record.id };
  }

  router.get("/v1/hold", { config: { access: "read" } }, async () => ({
    items: (await store.read((journal) => journal.holds.list()))
      .filter((hold) => isActive(hold, clock.nowMs()))
      .map((hold): HoldView => toWire(hold)),
  }));

  router.put(
    "/v1/hold",
    { config: { access: "operate" }, schema: { body: HoldBody } },
    async (request): Promise<HoldView> => {
      const { scope, reason, for_ms: forMs } = request.body;
      const hold = await placeHold(world, {
        scope: await checked(scopeOf(scope)),
        by: request.principal.name,
        reason,
        ...(forMs === undefined ? {} : { forMs }),
      });
      world.operations.kick();
      return toWire(hold);
    },
  );

  router.delete(
    "/v1/hold",
    {
      config: { access: "operate" },
      schema: {
        querystring: Type.Object({
          site: Type.Optional(Type.String()),
          environment: Type.Optional(Type.String()),
        }),
      },
    },
    async (request): Promise<HoldLifted> => {
      const { site, environment } = request.query;
      const scope = await checked(
        site !== undefined
          ? { siteId: site }
          : environment !== undefined
            ? { environmentId: environment }
            : "everything",
      );
      const wasHeld = await liftHold(world, scope, request.principal.name);
      return { lifted: toWire(scope) as HoldView["scope"], was_held: wasHeld };
    },
  );
}

function scopeOf(
  scope: "everything" | { site_id: string } | { environment_id: string },
): Hold["scope"] {
  if (scope === "everything") return scope;
  return "site_id" in scope ? { siteId: scope.site_id } : { environmentId: scope.environment_id };
}
