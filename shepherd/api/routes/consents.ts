/** Recalls of a site's consent, by who owns the site; and exemptions from rules, by two people of security. */
import { checkExempts, checkSpeaksForSite } from "#api/access";
import type { ExemptionView, RecallView } from "#api/contract-people";
import { environmentOf, find } from "#api/records";
import { byId } from "#api/routes/environments";
import { ExemptionBody, RecallBody } from "#api/schemas-people";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import type { Exemption, Recall } from "#model/consent";
import { Fault } from "#model/fault";
import { toWire } from "#model/wire";
import { approveExemption, endExemption, isInForce, proposeExemption } from "#policy/exemptions";
import { leftAt, liftRecall, placeRecall } from "#policy/recall";
import type { Journal } from "#ports/store";

export function consentRoutes(router: ApiRouter, world: ApiWorld): void {
  recallRoutes(router, world);
  exemptionRoutes(router, world);
}

function recallRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, sensing } = world;
  const ownerOf = (siteId: string): string => {
    const site = sensing.sites().find(({ id }) => id === siteId);
    if (site === undefined) throw new Fault("object.unknown", { kind: "site", id: siteId });
    return site.owner;
  };

  router.get("/v1/recalls", { config: { access: "read" } }, async () => ({
    items: await store.read(async (journal) => {
      const views: RecallView[] = [];
      for (const recall of await journal.recalls.list()) {
        views.push(await recallView(journal, recall));
      }
      return views;
    }),
  }));

  router.post(
    "/v1/recalls",
    { config: { access: "read" }, schema: { body: RecallBody } },
    async (call, reply): Promise<RecallView> => {
      const { site, environment, machine, reason, deadline_ms: deadlineMs } = call.body;
      checkSpeaksForSite(call.principal, { id: site, owner: ownerOf(site) });
      const about = await store.read(async (journal) => {
        const record = await environmentOf(journal, environment);
        const named =
          machine === undefined
            ? undefined
            : await find(
                journal,
                "machine",
                machine.includes("-") && machine.length === 36
                  ? machine
                  : `${record.id}/${machine}`,
              );
        return { environmentId: record.id, machineId: named?.id };
      });
      const recall = await placeRecall(world, {
        siteId: site,
        ...about,
        by: call.principal.name,
        reason,
        deadlineMs,
      });
      reply.code(201);
      return await store.read((journal) => recallView(journal, recall));
    },
  );

  router.delete("/v1/recalls/:id", byId("read"), async (call): Promise<RecallView> => {
    const { id } = call.params;
    const standing = await store.read((journal) => journal.recalls.get(id));
    if (standing === undefined) throw new Fault("recall.unknown", { recall: id });
    const site = { id: standing.siteId, owner: ownerOf(standing.siteId) };
    checkSpeaksForSite(call.principal, site);
    const lifted = await liftRecall(world, id, call.principal.name);
    return await store.read((journal) => recallView(journal, lifted));
  });
}

async function recallView(journal: Journal, recall: Recall): Promise<RecallView> {
  const environment = await journal.objects.get("environment", recall.environmentId);
  const machines = await journal.objects.list("machine", { environmentId: recall.environmentId });
  const nameOf = (id: string) => machines.find((one) => one.id === id)?.spec.name ?? id;
  return {
    ...toWire(recall),
    environment: environment?.spec.name ?? recall.environmentId,
    machine: recall.machineId === undefined ? null : nameOf(recall.machineId),
    left: leftAt(recall, { machines }).map(nameOf),
  };
}

function exemptionRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock } = world;
  const view = (exemption: Exemption): ExemptionView => ({
    ...toWire(exemption),
    state:
      clock.nowMs() >= exemption.expiresAtMs
        ? "expired"
        : isInForce(exemption, clock.nowMs())
          ? "in_force"
          : "proposed",
  });

  router.get("/v1/exemptions", { config: { access: "read" } }, async () => ({
    items: (await store.read((journal) => journal.exemptions.list())).map(view),
  }));

  router.post(
    "/v1/exemptions",
    { config: { access: "secure" }, schema: { body: ExemptionBody } },
    async (call, reply): Promise<ExemptionView> => {
      const { body, principal } = call;
      checkExempts(principal, body.owner, siteOwners(world));
      await store.read(async (journal) => {
        for (const name of body.environments) await environmentOf(journal, name);
      });
      const { expires_at_ms: expiresAtMs, ...terms } = body;
      reply.code(201);
      return view(
        await proposeExemption(world, {
          ...terms,
          expiresAtMs,
          by: principal.name,
          human: principal.human,
        }),
      );
    },
  );

  router.post(
    "/v1/exemptions/:id/approve",
    { config: { access: "read" }, schema: byId("read").schema },
    async (call): Promise<ExemptionView> => {
      const { principal } = call;
      if (principal.role !== "approver" && principal.role !== "security") {
        throw new Fault("access.denied", {
          principal: principal.name,
          role: principal.role,
          access: "approve exemptions",
        });
      }
      return view(
        await approveExemption(world, call.params.id, {
          by: principal.name,
          human: principal.human,
        }),
      );
    },
  );

  router.delete(
    "/v1/exemptions/:id",
    { config: { access: "secure" }, schema: byId("read").schema },
    async (call): Promise<ExemptionView> =>
      view(await endExemption(world, call.params.id, call.principal.name)),
  );
}

/** Who owns each site, as drover.yaml says. */
function siteOwners(world: ApiWorld): ReadonlyMap<string, string> {
  return new Map(world.sensing.sites().map(({ id, owner }) => [id, owner]));
}
