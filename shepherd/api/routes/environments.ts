/** Environments: the unit of ownership. Nothing of one runs, so no operation is needed; policy judges what is in it. */
import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import { checkOwner, type Principal } from "#api/access";
import type { EnvironmentView, Mutation } from "#api/contract";
import { checkRanges, environmentAdaptation } from "#api/machine-spec";
import {
  change,
  claimedConflict,
  environmentOf,
  findAndClaim,
  journalChange,
  look,
  sameData,
} from "#api/records";
import { EnvironmentBody, EnvironmentPatch, Name } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { environmentView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import {
  type EnvironmentRecord,
  type EnvironmentSpec,
  envelopeOf,
  nameOfLink,
} from "#model/objects";
import type { Ms } from "#model/units";
import type { Journal } from "#ports/store";

export function environmentRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, ids } = world;

  router.put(
    "/v1/environments/:name",
    {
      config: { access: "declare" },
      schema: { params: Type.Object({ name: Name }), body: EnvironmentBody },
    },
    async (request, reply): Promise<Mutation<EnvironmentView>> => {
      const { principal, body } = request;
      const { name } = request.params;
      const spec: EnvironmentSpec = {
        name,
        owner: body.owner ?? principal.name,
        class: body.class,
        sites: checkSites(world, body.sites),
        adaptation: environmentAdaptation(body.adaptation),
      };
      checkOwner(principal, spec.owner);
      const { record, created } = await store.transaction(async (journal) => {
        const existing = await journal.objects.findByKey("environment", name);
        if (existing !== undefined) {
          checkOwner(principal, existing.spec.owner);
          if (existing.claimed) throw claimedConflict(existing, name);
          if (sameData(existing.spec, spec)) return { record: existing, created: false };
          const changed = await change(journal, existing, { spec });
          await journalChange(journal, changed, clock.nowMs());
          await passOn(journal, changed, clock.nowMs());
          return { record: changed, created: false };
        }
        const fresh: EnvironmentRecord = {
          kind: "environment",
          id: ids.next(),
          key: name,
          environmentId: undefined,
          spec,
          effective: {},
          version: 1,
          claimed: false,
          createdAtMs: clock.nowMs(),
        };
        await journal.objects.put(fresh);
        await journalChange(journal, fresh, clock.nowMs());
        return { record: fresh, created: true };
      });
      status(reply, created);
      return { object: environmentView(record), operation: null };
    },
  );

  router.get(
    "/v1/environments",
    {
      config: { access: "read" },
      schema: { querystring: Type.Object({ name: Type.Optional(Type.String()) }) },
    },
    async (request) => {
      const { name } = request.query;
      const records = await store.read((journal) => journal.objects.list("environment"));
      return {
        items: records
          .filter((record) => name === undefined || record.spec.name === name)
          .map(environmentView),
      };
    },
  );

  router.get("/v1/environments/:id", byId("read"), async (request) =>
    environmentView(
      await store.transaction((journal) =>
        look(journal, "environment", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/environments/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: EnvironmentPatch } },
    async (request): Promise<Mutation<EnvironmentView>> => {
      const { body, principal } = request;
      const record = await store.transaction(async (journal) => {
        const found = await findAndClaim(journal, "environment", request.params.id);
        checkOwner(principal, found.spec.owner);
        const spec: EnvironmentSpec = {
          ...found.spec,
          owner: body.owner ?? found.spec.owner,
          class: body.class ?? found.spec.class,
          sites: body.sites === undefined ? found.spec.sites : checkSites(world, body.sites),
          adaptation:
            body.adaptation === undefined
              ? found.spec.adaptation
              : environmentAdaptation(body.adaptation),
        };
        checkOwner(principal, spec.owner);
        if (sameData(spec, found.spec)) return found;
        const changed = await change(journal, found, { spec });
        await journalChange(journal, changed, clock.nowMs());
        await passOn(journal, changed, clock.nowMs());
        return changed;
      });
      return { object: environmentView(record), operation: null };
    },
  );

  router.delete(
    "/v1/environments/:id",
    byId("declare"),
    async (request): Promise<Mutation<EnvironmentView>> => {
      await store.transaction(async (journal) => {
        const found = await findAndClaim(journal, "environment", request.params.id);
        checkOwner(request.principal, found.spec.owner);
        await refuseWhileUsed(journal, found);
        // What a destroyed machine was granted goes with its environment: a new one starts from its baselines.
        for (const adaptation of await journal.adaptations.list({ environmentId: found.id })) {
          await journal.adaptations.remove(adaptation.id);
        }
        for (const { id } of await journal.objects.list("forecast", { environmentId: found.id })) {
          await journal.objects.remove("forecast", id);
        }
        for (const one of await journal.objects.list("constraint", { environmentId: found.id })) {
          await journal.objects.remove("constraint", one.id);
          await journalChange(journal, one, clock.nowMs(), "object.deleted");
        }
        await journal.objects.remove("environment", found.id);
        await journalChange(journal, found, clock.nowMs(), "object.deleted");
      });
      return { object: null, operation: null };
    },
  );
}

/**
 * Machines inherit their environment's new defaults at once. Nothing live changes by it: an envelope only bounds what may
 * be asked for. Fault `request.invalid` when a default would leave a baseline outside.
 */
async function passOn(journal: Journal, environment: EnvironmentRecord, nowMs: Ms): Promise<void> {
  const machines = await journal.objects.list("machine", { environmentId: environment.id });
  for (const machine of machines) {
    const { spec } = machine;
    // Words of before there were defaults stand as they are.
    if (spec.declared === undefined && environment.spec.adaptation === undefined) continue;
    const envelope = envelopeOf(spec.declared, environment.spec.adaptation);
    if (sameData(envelope, spec.envelope)) continue;
    checkRanges({ ...spec, envelope });
    const changed = await change(journal, machine, { spec: { ...spec, envelope } });
    await journalChange(journal, changed, nowMs);
  }
}

export const Params = Type.Object({ id: Type.String({ minLength: 1, maxLength: 128 }) });
/** Options of a route that names one object. */
export function byId(access: "declare" | "operate" | "read") {
  return { config: { access }, schema: { params: Params } } as const;
}

export function status(reply: FastifyReply, created: boolean): void {
  void reply.code(created ? 201 : 200);
}

/** The environment, when the caller may change what is in it. */
export async function ownEnvironment(
  journal: Parameters<typeof environmentOf>[0],
  idOrName: string,
  principal: Principal,
): Promise<EnvironmentRecord> {
  const environment = await environmentOf(journal, idOrName);
  checkOwner(principal, environment.spec.owner);
  return environment;
}

function checkSites(world: ApiWorld, sites: readonly string[]): readonly string[] {
  const unknown = sites.find((site) => !world.siteIds.includes(site));
  if (unknown !== undefined) {
    throw new Fault("request.invalid", {
      where: "sites",
      attribute: "sites",
      problem: `there is no site ${unknown}; there are ${world.siteIds.join(", ")}`,
    });
  }
  return [...new Set(sites)];
}

async function refuseWhileUsed(
  journal: Parameters<typeof environmentOf>[0],
  environment: EnvironmentRecord,
): Promise<void> {
  const inside = { environmentId: environment.id };
  const users = [
    ...(await journal.objects.list("machine", inside)).map((one) => `machine ${one.spec.name}`),
    ...(await journal.objects.list("network", inside)).map((one) => `network ${one.spec.name}`),
    ...(await journal.objects.list("group", inside)).map((one) => `group ${one.spec.name}`),
    ...(await journal.objects.list("volume", inside)).map((one) => `volume ${one.spec.name}`),
    ...(await journal.objects.list("link", inside)).map((one) => `link ${nameOfLink(one.spec)}`),
  ];
  if (users.length > 0) {
    throw new Fault("object.in_use", {
      kind: "environment",
      key: environment.spec.name,
      users: users.slice(0, 5).join(", "),
    });
  }
}
