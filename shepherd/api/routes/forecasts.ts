/** Phases that guests announced and that are not over. Looks only; guests announce through their channel. */
import { Type } from "typebox";
import { environmentOf } from "#api/records";
import type { ApiRouter } from "#api/server";
import { forecastView } from "#api/views";
import type { ApiWorld } from "#api/world";

export function forecastRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock } = world;
  router.get(
    "/v1/forecasts",
    {
      config: { access: "read" },
      schema: { querystring: Type.Object({ environment: Type.Optional(Type.String()) }) },
    },
    async (request) => {
      const { environment } = request.query;
      const nowMs = clock.nowMs();
      return await store.read(async (journal) => {
        const inside =
          environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id };
        const environments = await journal.objects.list("environment");
        const names = new Map<string, string>(environments.map(({ id, spec }) => [id, spec.name]));
        const items = (await journal.objects.list("forecast", inside))
          .filter(({ spec }) => names.has(spec.environmentId) && (spec.untilMs ?? nowMs) >= nowMs)
          .toSorted((left, right) => left.spec.fromMs - right.spec.fromMs)
          .map((record) => forecastView(record, names.get(record.spec.environmentId) ?? ""));
        return { items };
      });
    },
  );
}
