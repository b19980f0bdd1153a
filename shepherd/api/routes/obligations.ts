/** What policies demanded with a yes, and a named person's word that they have looked at it. */
import { Type } from "typebox";
import type { ObligationView } from "#api/contract-people";
import { environmentOf } from "#api/records";
import { Params } from "#api/routes/environments";
import { ReviewBody } from "#api/schemas-people";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import type { OwedObligation } from "#model/obligation";
import { toWire } from "#model/wire";
import { review } from "#policy/obligations";
import type { Journal } from "#ports/store";

const defaultLimit = 200;

export function obligationRoutes(router: ApiRouter, { store, clock }: ApiWorld): void {
  router.get(
    "/v1/obligations",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          state: Type.Optional(Type.Enum(["waiting", "kept", "missed", "void"])),
        }),
      },
    },
    async (call): Promise<{ items: ObligationView[] }> => {
      const { environment, state } = call.query;
      return await store.read(async (journal) => {
        const owed = await journal.obligations.list({
          ...(environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id }),
          ...(state === undefined ? {} : { states: [state] }),
          limit: defaultLimit,
        });
        const items: ObligationView[] = [];
        for (const one of owed) items.push(await obligationView(journal, one));
        return { items };
      });
    },
  );

  router.post(
    "/v1/obligations/:id/review",
    { config: { access: "approve" }, schema: { params: Params, body: ReviewBody } },
    async (call): Promise<ObligationView> =>
      await store.transaction(async (journal) =>
        obligationView(
          journal,
          await review(journal, call.params.id, {
            by: call.principal.human ?? call.principal.name,
            reason: call.body.reason,
            atMs: clock.nowMs(),
          }),
        ),
      ),
  );
}

async function obligationView(journal: Journal, owed: OwedObligation): Promise<ObligationView> {
  const environment = await journal.objects.get("environment", owed.environmentId);
  const machines = await Promise.all(
    owed.machineIds.map(
      async (id) => (await journal.objects.get("machine", id))?.spec.name ?? `${id}`,
    ),
  );
  return {
    ...toWire(owed),
    environment: environment?.spec.name ?? owed.environmentId,
    machines: machines.toSorted(),
  };
}
