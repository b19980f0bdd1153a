/**
 * Hosts that a site's owner registers while the shepherd runs. A host is connected and asked before it is written down,
 * used at once, and taken away only when nothing of ours is on it. Keys are named, never told.
 */
import { Type } from "typebox";
import type { Principal } from "#api/access";
import type { Mutation } from "#api/contract";
import type { HostBody as HostBodyContract, HostRegistrationView } from "#api/contract-hosts";
import { change, claimedConflict, find, findAndClaim, look, sameData } from "#api/records";
import { byId, status } from "#api/routes/environments";
import { checkAddress, HostBody, HostName, HostPatch } from "#api/schemas-hosts";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { HostRegistration, HostRegistrationSpec } from "#model/objects";
import type { HostId } from "#model/units";
import type { Journal } from "#ports/store";

export function hostRegistrationRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, sensing, fleet, hostCare } = world;
  if (fleet === undefined || hostCare === undefined) return;
  const { marks } = hostCare;

  router.put(
    "/v1/sites/:site/hosts/:name",
    {
      config: { access: "declare" },
      schema: { params: Type.Object({ site: Type.String(), name: HostName }), body: HostBody },
    },
    async (request, reply): Promise<Mutation<HostRegistrationView>> => {
      const { principal, body } = request;
      const { site: siteId, name } = request.params;
      const owner = ownerOf(siteId);
      checkSpeaks(principal, { id: siteId, owner });
      checkAddress(body.migration_address);
      const spec = specOf(body, { name, siteId, owner });
      if (fleet.isInFile(name)) throw new Fault("host.in_file", { host: name });
      const existing = await store.read((journal) => journal.objects.findByKey("host", name));
      if (existing !== undefined) {
        checkSpeaks(principal, { id: existing.spec.siteId, owner: existing.spec.owner });
        if (existing.claimed) throw claimedConflict(existing, name);
        if (!sameData(fixedOf(existing.spec), fixedOf(spec))) throw claimedConflict(existing, name);
        return { object: view(await changed(existing, spec, principal)), operation: null };
      }
      await fleet.admit(spec);
      const fresh: HostRegistration = {
        kind: "host",
        id: name,
        key: name,
        environmentId: undefined,
        spec,
        effective: {},
        version: 1,
        claimed: false,
        createdAtMs: clock.nowMs(),
      };
      try {
        await store.transaction(async (journal) => {
          await journal.objects.put(fresh);
          await tell(journal, fresh, principal);
        });
      } catch (error) {
        await fleet.release(name);
        throw error;
      }
      status(reply, true);
      return { object: view(fresh), operation: null };
    },
  );

  router.get(
    "/v1/host-registrations",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          site: Type.Optional(Type.String()),
          name: Type.Optional(Type.String()),
        }),
      },
    },
    async (request) => {
      const { site, name } = request.query;
      const records = await store.read((journal) => journal.objects.list("host"));
      return {
        items: records
          .filter(({ spec }) => site === undefined || spec.siteId === site)
          .filter(({ spec }) => name === undefined || spec.name === name)
          .map(view),
      };
    },
  );

  router.get("/v1/host-registrations/:id", byId("read"), async (request) =>
    view(
      await store.transaction((journal) =>
        look(journal, "host", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/host-registrations/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: HostPatch } },
    async (request): Promise<Mutation<HostRegistrationView>> => {
      const { principal, body } = request;
      const found = await store.transaction((journal) =>
        own(journal, request.params.id, principal),
      );
      const spec: HostRegistrationSpec = {
        ...found.spec,
        ...(body.lend === undefined ? {} : { lend: lendOf(body.lend) }),
        ...(body.uplink_mbps === undefined ? {} : { uplinkMbps: body.uplink_mbps ?? undefined }),
      };
      return { object: view(await changed(found, spec, principal)), operation: null };
    },
  );

  router.delete(
    "/v1/host-registrations/:id",
    byId("declare"),
    async (request): Promise<Mutation<HostRegistrationView>> => {
      const { principal } = request;
      const { id } = await store.transaction((journal) =>
        own(journal, request.params.id, principal),
      );
      await store.read((journal) => refuseWhileUsed(journal, id));
      // From here on nothing new comes; what came meanwhile is seen by the second look.
      const wasDrained = marks.markOf(id) !== undefined;
      if (!wasDrained)
        await marks.drain({ hostId: id, by: principal.name, reason: "it is being taken away" });
      const lift = async () => {
        if (!wasDrained) await marks.lift(id, "draining", principal.name);
      };
      try {
        await store.transaction(async (journal) => {
          await refuseWhileUsed(journal, id);
          await journal.objects.remove("host", id);
          await tell(journal, { id, key: id }, principal, "object.deleted");
        });
      } catch (error) {
        await lift();
        throw error;
      }
      await fleet.release(id);
      await lift();
      return { object: null, operation: null };
    },
  );

  async function own(
    journal: Journal,
    id: string,
    principal: Principal,
  ): Promise<HostRegistration> {
    if (fleet?.isInFile(id) === true) throw new Fault("host.in_file", { host: id });
    const { siteId, owner } = (await find(journal, "host", id)).spec;
    checkSpeaks(principal, { id: siteId, owner });
    return await findAndClaim(journal, "host", id);
  }

  async function changed(
    record: HostRegistration,
    spec: HostRegistrationSpec,
    principal: Principal,
  ): Promise<HostRegistration> {
    if (sameData(spec, record.spec)) return record;
    const next = await store.transaction(async (journal) => {
      const written = await change(journal, record, { spec });
      await tell(journal, written, principal);
      return written;
    });
    fleet?.change(spec);
    return next;
  }

  async function tell(
    journal: Journal,
    { id, key, spec }: Pick<HostRegistration, "id" | "key"> & Partial<HostRegistration>,
    principal: Principal,
    kind: "object.changed" | "object.deleted" = "object.changed",
  ): Promise<void> {
    const data = {
      kind: "host",
      id,
      key,
      by: principal.name,
      ...(spec === undefined ? {} : { spec }),
    };
    await journal.events.append({ kind, atMs: clock.nowMs(), data });
  }

  function ownerOf(siteId: string): string {
    const site = fleet?.site(siteId);
    if (site !== undefined) return site.owner;
    const problem = `there is no site ${siteId}; there are ${world.siteIds.join(", ")}`;
    throw new Fault("request.invalid", { where: "site", attribute: "site", problem });
  }

  function view({ id, spec, version }: HostRegistration): HostRegistrationView {
    const { ssh } = spec;
    return {
      id,
      site: spec.siteId,
      pool: spec.pool,
      migration_address: spec.migrationAddress,
      lend: {
        cpu_percent: spec.lend.cpuPercent,
        memory_mib: spec.lend.memoryMib,
        disk_gib: spec.lend.diskGib,
      },
      uplink_mbps: spec.uplinkMbps ?? null,
      ssh:
        ssh === undefined
          ? null
          : {
              address: ssh.address,
              port: ssh.port,
              user: ssh.user,
              key: ssh.key,
              host_key: ssh.hostKey,
            },
      libvirt_socket: spec.libvirtSocket ?? null,
      acceleration: spec.acceleration,
      state: sensing.answers(id) ? "up" : "degraded",
      version,
    };
  }
}

/** The site's owner, or whoever stands at the shepherd. Fault `site.not_owner`. */
function checkSpeaks(
  { name, role }: Principal,
  site: { readonly id: string; readonly owner: string },
): void {
  if (name === site.owner || role === "local-root" || role === "operator") return;
  throw new Fault("site.not_owner", { principal: name, site: site.id, owner: site.owner });
}

function specOf(
  body: HostBodyContract,
  { name, siteId, owner }: Pick<HostRegistrationSpec, "name" | "siteId" | "owner">,
): HostRegistrationSpec {
  const { ssh } = body;
  return {
    name,
    siteId,
    owner,
    pool: body.pool ?? "drover",
    migrationAddress: body.migration_address,
    lend: lendOf(body.lend),
    uplinkMbps: body.uplink_mbps ?? undefined,
    ssh:
      ssh == null
        ? undefined
        : {
            address: ssh.address,
            port: ssh.port ?? 22,
            user: ssh.user ?? "root",
            key: ssh.key,
            hostKey: ssh.host_key,
          },
    libvirtSocket: body.libvirt_socket ?? undefined,
    acceleration: body.acceleration ?? "tcg",
  };
}

function lendOf(lend: HostBodyContract["lend"]): HostRegistrationSpec["lend"] {
  return { cpuPercent: lend.cpu_percent, memoryMib: lend.memory_mib, diskGib: lend.disk_gib };
}

/** What is for good: all but what changes in place. */
function fixedOf(spec: HostRegistrationSpec): object {
  return { ...spec, lend: null, uplinkMbps: null };
}

/** Fault `object.in_use` names what is there, or on its way there. */
async function refuseWhileUsed(journal: Journal, id: HostId): Promise<void> {
  const users = [
    ...(await journal.objects.list("machine"))
      .filter(({ effective }) => effective.hostId === id)
      .map(({ spec }) => `machine ${spec.name}`),
    ...(await journal.objects.list("volume"))
      .filter(({ effective }) => effective.hostId === id)
      .map(({ spec }) => `volume ${spec.name}`),
    ...(await journal.objects.list("network"))
      .filter(({ effective }) => effective.gatewayHostId === id)
      .map(({ spec }) => `the gateway of network ${spec.name}`),
    ...(await journal.reservations.list())
      .filter(({ hostId }) => hostId === id)
      .map(({ machineId }) => `room for machine ${machineId}`),
  ];
  if (users.length === 0) return;
  throw new Fault("object.in_use", { kind: "host", key: id, users: users.slice(0, 5).join(", ") });
}
