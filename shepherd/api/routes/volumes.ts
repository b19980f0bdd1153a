/**
 * Volumes: data disks that outlive their machines. Declaring one writes a record; the file is made on the host of the
 * first machine that names it, and removed when the volume is deleted.
 */
import { type Static, Type } from "typebox";
import { checkOwner, type Principal } from "#api/access";
import { approvalView } from "#api/approval-views";
import type { Mutation, VolumeView } from "#api/contract";
import { mustAllow } from "#api/problems";
import {
  change,
  claimedConflict,
  environmentOf,
  find,
  findAndClaim,
  importId,
  journalChange,
  listNamed,
  look,
  sameData,
} from "#api/records";
import { byId, ownEnvironment, status } from "#api/routes/environments";
import { type Call, newRequest, type Reply } from "#api/routes/machines";
import { Name, VolumeBody, VolumePatch } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { operationView, volumeView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { VolumeRecord, VolumeSpec } from "#model/objects";
import type { Request } from "#model/request";
import type { Journal } from "#ports/store";

export function volumeRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, clock, ids } = world;

  router.put(
    "/v1/environments/:environment/volumes/:name",
    {
      config: { access: "declare" },
      schema: {
        params: Type.Object({ environment: Type.String(), name: Name }),
        body: VolumeBody,
      },
    },
    async (request, reply): Promise<Mutation<VolumeView>> => {
      const { name } = request.params;
      const { size_gib: sizeGib, site, deletion_protection: isProtected } = request.body;
      const { record, created } = await store.transaction(async (journal) => {
        const environment = await ownEnvironment(
          journal,
          request.params.environment,
          request.principal,
        );
        const key = `${environment.id}/${name}`;
        const spec: VolumeSpec = {
          environmentId: environment.id,
          name,
          sizeGib,
          siteId: site ?? undefined,
          deletionProtection: isProtected ?? false,
        };
        if (site != null && !environment.spec.sites.includes(site)) {
          throw new Fault("request.invalid", {
            where: "site",
            attribute: "site",
            problem: `${site} is not among the sites of environment ${environment.spec.name}: ${environment.spec.sites.join(", ")}`,
          });
        }
        const existing = await journal.objects.findByKey("volume", key);
        if (existing !== undefined) {
          if (existing.claimed) throw claimedConflict(existing, importId(environment, name));
          return { record: await changed(journal, existing, spec), created: false };
        }
        const fresh: VolumeRecord = {
          kind: "volume",
          id: ids.next(),
          key,
          environmentId: environment.id,
          spec,
          effective: { hostId: "", siteId: "", sizeGib },
          version: 1,
          claimed: false,
          createdAtMs: clock.nowMs(),
        };
        await journal.objects.put(fresh);
        await journalChange(journal, fresh, clock.nowMs());
        return { record: fresh, created: true };
      });
      status(reply, created);
      return { object: await shown(record), operation: null };
    },
  );

  router.get(
    "/v1/volumes",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          name: Type.Optional(Type.String()),
        }),
      },
    },
    async (request) => {
      const records = await store.read((journal) => listNamed(journal, "volume", request.query));
      return { items: await Promise.all(records.map(shown)) };
    },
  );

  router.get("/v1/volumes/:id", byId("read"), async (request) =>
    shown(
      await store.transaction((journal) =>
        look(journal, "volume", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/volumes/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: VolumePatch } },
    async (request, reply): Promise<Mutation<VolumeView>> => {
      const { record, spec } = await store.transaction(async (journal) => {
        const found = await ownVolume(journal, request.params.id, request.principal);
        const asked = patchedVolume(found, request.body);
        return grows(found, asked)
          ? { record: found, spec: asked }
          : { record: await changed(journal, found, asked), spec: undefined };
      });
      if (spec === undefined) return { object: await shown(record), operation: null };
      return await submit(request, reply, {
        kind: "update",
        record,
        about: { declares: { volumes: [{ id: record.id, spec }] } },
      });
    },
  );

  router.delete(
    "/v1/volumes/:id",
    byId("declare"),
    async (request, reply): Promise<Mutation<VolumeView>> => {
      const found = await store.transaction(async (journal) => {
        const volume = await ownVolume(journal, request.params.id, request.principal);
        const { name, deletionProtection } = volume.spec;
        if (deletionProtection === true) {
          throw new Fault("object.protected", { kind: "volume", key: name });
        }
        const holder = await holderOf(journal, volume);
        if (holder !== undefined) {
          throw new Fault("object.in_use", {
            kind: "volume",
            key: name,
            users: `machine ${holder}`,
          });
        }
        return volume;
      });
      return await submit(request, reply, {
        kind: "destroy",
        record: found,
        about: { volumes: [found.id] },
      });
    },
  );

  async function submit(
    call: Call,
    reply: Reply,
    of: {
      readonly kind: "update" | "destroy";
      readonly record: VolumeRecord;
      readonly about: Partial<Pick<Request, "volumes" | "declares">>;
    },
  ): Promise<Mutation<VolumeView>> {
    const { kind, record, about } = of;
    const { principal } = call;
    const { environmentId } = record.spec;
    const { operation, approval } = mustAllow(
      await gate.submit({
        ...newRequest(world, { call, principal, kind, environmentId }),
        ...about,
      }),
    );
    reply.code(202);
    return {
      object: await shown(record),
      operation: operation === undefined ? null : operationView(operation),
      ...(approval?.state === "pending"
        ? { approval: await store.read((journal) => approvalView(journal, approval)) }
        : {}),
    };
  }

  async function changed(
    journal: Journal,
    record: VolumeRecord,
    spec: VolumeSpec,
  ): Promise<VolumeRecord> {
    if (sameData(spec, record.spec)) return record;
    refuseImmutable(record, spec);
    const next = await change(journal, record, { spec });
    await journalChange(journal, next, clock.nowMs());
    return next;
  }

  async function ownVolume(
    journal: Journal,
    id: string,
    principal: Principal,
  ): Promise<VolumeRecord> {
    const found = await find(journal, "volume", id);
    const environment = await environmentOf(journal, found.spec.environmentId);
    checkOwner(principal, environment.spec.owner);
    return await findAndClaim(journal, "volume", id);
  }

  async function shown(record: VolumeRecord): Promise<VolumeView> {
    return volumeView(record, await store.read((journal) => holderOf(journal, record)));
  }
}

/** The specification after a PATCH. Fault `object.immutable`: it shrinks, or leaves the site where it lies. */
export function patchedVolume(record: VolumeRecord, body: Static<typeof VolumePatch>): VolumeSpec {
  const { size_gib: sizeGib, site, deletion_protection: isProtected } = body;
  const spec: VolumeSpec = {
    ...record.spec,
    sizeGib: sizeGib ?? record.spec.sizeGib,
    siteId: site === undefined ? record.spec.siteId : (site ?? undefined),
    deletionProtection: isProtected ?? record.spec.deletionProtection,
  };
  refuseImmutable(record, spec);
  return spec;
}

/** Whether a host has to do something for it. */
function grows({ effective }: VolumeRecord, { sizeGib }: VolumeSpec): boolean {
  return effective.hostId !== "" && sizeGib > effective.sizeGib;
}

function refuseImmutable({ spec: before, effective }: VolumeRecord, spec: VolumeSpec): void {
  if (effective.hostId === "") return;
  const immutable = (attribute: string, from: unknown, to: unknown) =>
    new Fault("object.immutable", { kind: "volume", key: before.name, attribute, from, to });
  if (spec.sizeGib < effective.sizeGib) {
    throw immutable("size_gib", effective.sizeGib, spec.sizeGib);
  }
  if (spec.siteId !== undefined && spec.siteId !== effective.siteId) {
    throw immutable("site", effective.siteId, spec.siteId);
  }
}

/** The machine that names it; undefined: none does. */
async function holderOf(journal: Journal, volume: VolumeRecord): Promise<string | undefined> {
  const { environmentId } = volume.spec;
  const machines = await journal.objects.list("machine", { environmentId });
  const holder = machines.find(
    ({ spec, effective }) =>
      spec.disks?.includes(volume.id) === true ||
      effective.started?.disks.includes(volume.id) === true,
  );
  return holder?.spec.name;
}
