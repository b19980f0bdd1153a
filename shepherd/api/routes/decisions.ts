/** Decisions, their explanation, and the adaptations they left behind. Reading only. */

import { gzipSync } from "node:zlib";
import { Type } from "typebox";
import type { AdaptationView, DecidedPolicy, Explanation } from "#api/contract";
import { explain } from "#api/explanation";
import { environmentOf } from "#api/records";
import { byId } from "#api/routes/environments";
import { evidenceRoutes } from "#api/routes/evidence";
import type { ApiRouter } from "#api/server";
import { adaptationView } from "#api/views";
import type { ApiSnapshots, ApiWorld } from "#api/world";
import { adaptationRows } from "#intake/write-back";
import { Fault } from "#model/fault";
import { nameOfLink } from "#model/objects";
import { toWire } from "#model/wire";
import { policiesOf } from "#policy/snapshot";

const defaultLimit = 100;
const Page = Type.Object({
  environment: Type.Optional(Type.String()),
  since: Type.Optional(Type.String({ pattern: "^\\d+$" })),
  limit: Type.Optional(Type.String({ pattern: "^\\d{1,4}$" })),
});

export function decisionRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, evidence } = world;

  router.get(
    "/v1/decisions",
    { config: { access: "read" }, schema: { querystring: Page } },
    async (request) => {
      const { environment, limit } = request.query;
      const decisions = await store.read(async (journal) =>
        journal.decisions.list({
          ...(environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id }),
          limit: Number(limit ?? defaultLimit),
        }),
      );
      return { items: decisions.map((decision) => toWire(decision)) };
    },
  );

  router.get("/v1/decisions/:id", byId("read"), async (request) => {
    const found = await store.read((journal) => journal.decisions.get(request.params.id));
    if (found === undefined) throw unknownDecision(request.params.id);
    return toWire(found);
  });

  router.get(
    "/v1/decisions/:id/explanation",
    byId("read"),
    async (request): Promise<Explanation> => {
      const found = await store.read((journal) =>
        explain(journal, request.params.id, world.ruleSources),
      );
      if (found === undefined) throw unknownDecision(request.params.id);
      return found;
    },
  );

  router.get(
    "/v1/adaptations",
    { config: { access: "read" }, schema: { querystring: Page } },
    async (request): Promise<{ items: AdaptationView[] }> => ({
      items: await store.read(async (journal) => {
        const { environment } = request.query;
        const adaptations = await journal.adaptations.list(
          environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id },
        );
        return await Promise.all(
          adaptations.map(async (adaptation) => {
            const { environmentId, machineId, linkId } = adaptation;
            const [owner, machine, link] = [
              await journal.objects.get("environment", environmentId),
              machineId === undefined ? undefined : await journal.objects.get("machine", machineId),
              linkId === undefined ? undefined : await journal.objects.get("link", linkId),
            ];
            return adaptationView(adaptation, {
              environment: owner?.spec.name ?? "",
              machine: machine?.spec.name,
              link: link === undefined ? undefined : nameOfLink(link.spec),
            });
          }),
        );
      }),
    }),
  );

  router.get(
    "/v1/adaptations/rows",
    { config: { access: "read" }, schema: { querystring: Page } },
    async (request) => {
      const { environment } = request.query;
      return {
        items: await store.read((journal) =>
          adaptationRows(journal, environment === undefined ? undefined : new Set([environment])),
        ),
      };
    },
  );

  if (evidence !== undefined) evidenceRoutes(router, evidence, world.clock);
  if (world.snapshots !== undefined) snapshotRoutes(router, world.snapshots);
}

/** What a decision was made of, to be made again elsewhere: the whole fleet stands in it, so operators only. */
function snapshotRoutes(router: ApiRouter, snapshots: ApiSnapshots): void {
  const find = async (id: string) => {
    const snapshot = await snapshots.read(id);
    if (snapshot === undefined) throw new Fault("object.unknown", { kind: "snapshot", id });
    return snapshot;
  };
  router.get("/v1/decisions/:id/snapshot", byId("operate"), async ({ params }) => find(params.id));
  router.get(
    "/v1/decisions/:id/policies",
    byId("operate"),
    async ({ params }): Promise<{ items: readonly DecidedPolicy[] }> => {
      const wanted = policiesOf(await find(params.id));
      const found = await Promise.all(wanted.map((one) => snapshots.policy(one)));
      return {
        items: found.flatMap((one) =>
          one === undefined
            ? []
            : {
                owner: one.owner,
                policy_digest: one.policyDigest,
                data_digest: one.dataDigest,
                wasm_gz_base64: gzipSync(one.wasm).toString("base64"),
                data: one.data,
              },
        ),
      };
    },
  );
}

function unknownDecision(id: string): Fault {
  return new Fault("object.unknown", { kind: "decision", id });
}
