/**
 * Hosts as they are, and the machines on them that other tools made: seen, and taken over as they run. An import passes
 * the gate like a creation; nothing is restarted or defined anew, and what it takes of its host it took before.
 */
import { Type } from "typebox";
import { checkOwner } from "#api/access";
import { approvalView } from "#api/approval-views";
import type { ForeignMachineView, HostView, MachineView, Mutation } from "#api/contract";
import { createMachineViews } from "#api/machine-views";
import { mustAllow } from "#api/problems";
import { importId } from "#api/records";
import { byId, ownEnvironment } from "#api/routes/environments";
import { newRequest } from "#api/routes/machines";
import { ImportBody } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { operationView } from "#api/views";
import type { ApiWorld } from "#api/world";
import type { HostFacts } from "#model/facts";
import { Fault } from "#model/fault";
import { defaultCpuWeight, type MachineRecord, type MachineSpec } from "#model/objects";
import type { ForeignDomain } from "#sensing/observer";

export function foreignRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, sensing } = world;
  const views = createMachineViews(world);

  router.get(
    "/v1/hosts",
    {
      config: { access: "read" },
      schema: { querystring: Type.Object({ site: Type.Optional(Type.String()) }) },
    },
    async (request) => {
      const { site } = request.query;
      const machines = await store.read((journal) => journal.objects.list("machine"));
      const hosts = sensing.sites().flatMap((one) => one.hosts);
      return {
        items: hosts
          .filter(({ siteId }) => site === undefined || siteId === site)
          .map((host) => hostView(host, machines)),
      };
    },
  );

  router.get("/v1/hosts/:id", byId("read"), async (request) => {
    const { id } = request.params;
    const machines = await store.read((journal) => journal.objects.list("machine"));
    const host = sensing
      .sites()
      .flatMap((one) => one.hosts)
      .find((one) => one.id === id);
    if (host === undefined) throw new Fault("object.unknown", { kind: "host", id });
    return hostView(host, machines);
  });

  router.get(
    "/v1/foreign-machines",
    {
      // Whose they are nobody knows here: only who operates the hosts sees them.
      config: { access: "operate" },
      schema: {
        querystring: Type.Object({
          site: Type.Optional(Type.String()),
          host: Type.Optional(Type.String()),
        }),
      },
    },
    async (request) => {
      const { site, host } = request.query;
      await sensing.refresh();
      return {
        items: sensing
          .foreign()
          .filter(({ siteId }) => site === undefined || siteId === site)
          .filter(({ hostId }) => host === undefined || hostId === host)
          .map(foreignView),
      };
    },
  );

  router.post(
    "/v1/foreign-machines/:id/import",
    {
      config: { access: "operate" },
      schema: {
        params: Type.Object({ id: Type.String({ minLength: 1, maxLength: 64 }) }),
        body: ImportBody,
      },
    },
    async (request, reply): Promise<Mutation<MachineView>> => {
      const { principal, body } = request;
      const id = request.params.id.toLowerCase();
      await sensing.refresh(body.host === undefined ? undefined : [body.host]);
      const found = await store.read(async (journal) => {
        const environment = await ownEnvironment(journal, body.environment, principal);
        checkOwner(principal, environment.spec.owner);
        const there = await journal.objects.get("machine", id);
        const isIt = there?.key === `${environment.id}/${body.name}`;
        if (there !== undefined && !isIt) {
          const as = importId(environment, body.name);
          throw new Fault("conflict.exists", { kind: "machine", key: as, existingId: id });
        }
        return { environment, there };
      });
      const { environment, there } = found;
      if (there !== undefined && there.effective.hostId !== "") {
        return { object: await views.of(there), operation: null };
      }
      const foreign = sensing
        .foreign()
        .find(
          ({ domain, hostId }) =>
            domain.id.toLowerCase() === id && (body.host === undefined || body.host === hostId),
        );
      if (foreign === undefined) {
        throw new Fault("object.unknown", { kind: "foreign machine", id });
      }
      const spec = importedSpec(foreign, environment.id, body);
      if (!environment.spec.sites.includes(foreign.siteId)) {
        const problem = `site ${foreign.siteId} is not among the sites of ${environment.spec.name}`;
        throw refusal(foreign, problem);
      }
      const { siteId, ...sizing } = spec.baseline;
      const asked = mustAllow(
        await gate.submit({
          ...newRequest(world, {
            call: request,
            principal,
            kind: "create",
            environmentId: environment.id,
          }),
          machines: [{ machineId: id, ...sizing, siteId }],
          declares: { machines: [{ id, spec }] },
          reason: `import of ${foreign.domain.name}`,
        }),
      );
      const { operation, approval } = asked;
      void reply.code(202);
      return {
        object: null,
        operation: operation === undefined ? null : operationView(operation),
        ...(approval?.state === "pending"
          ? { approval: await store.read((journal) => approvalView(journal, approval)) }
          : {}),
      };
    },
  );
}

/** What it is now becomes its baseline; nothing of it adapts until its stack says so. */
function importedSpec(
  { domain, hostId, siteId }: ForeignDomain,
  environmentId: string,
  body: { readonly name: string; readonly group?: string | null; readonly class?: string | null },
): MachineSpec {
  if (domain.state !== "running") {
    throw refusal({ domain, hostId }, `it is ${domain.state}; a running machine is taken over`);
  }
  return {
    environmentId,
    name: body.name,
    group: body.group ?? undefined,
    speaker: false,
    class: body.class ?? undefined,
    imageId: "",
    baseline: {
      vcpus: domain.vcpus,
      cpuPercent: domain.cpuPercent ?? domain.vcpus * 100,
      memoryMib: domain.memoryTargetMib,
      siteId,
    },
    ...(domain.cpuWeight === undefined ? {} : { cpuWeight: domain.cpuWeight }),
    envelope: { mode: "auto" },
    networks: [],
    origin: "import",
    importedFrom: hostId,
  };
}

function refusal(
  { domain, hostId }: Pick<ForeignDomain, "domain" | "hostId">,
  problem: string,
): Fault {
  return new Fault("import.refused", { name: domain.name, host: hostId, problem });
}

function foreignView({ domain, hostId, siteId }: ForeignDomain): ForeignMachineView {
  return {
    id: domain.id,
    name: domain.name,
    site: siteId,
    host: hostId,
    state: domain.state,
    vcpus: domain.vcpus,
    cpu_percent: domain.cpuPercent ?? null,
    cpu_weight: domain.cpuWeight ?? defaultCpuWeight,
    memory_mib: domain.memoryMib,
    memory_max_mib: domain.memoryMaxMib,
    managed_by: domain.otherMark ?? null,
  };
}

function hostView(host: HostFacts, machines: readonly MachineRecord[]): HostView {
  const { lend, foreign } = host;
  return {
    id: host.id,
    site: host.siteId,
    state: host.state,
    lend: {
      cpu_percent: lend.cpuPercent,
      memory_mib: lend.memoryMib,
      disk_gib: lend.diskGib,
    },
    free_memory_mib: host.freeMemoryMib ?? null,
    free_disk_bytes: host.freeDiskBytes ?? null,
    foreign: {
      count: foreign.count,
      cpu_percent: foreign.cpuPercent,
      memory_mib: foreign.memoryMib,
    },
    machines: machines.filter(({ effective }) => effective.hostId === host.id).map(({ id }) => id),
  };
}
