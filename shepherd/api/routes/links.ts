/** Links: a promised rate between two machines of an environment. Each change passes the gate like a machine's. */
import { type Static, Type } from "typebox";
import { checkOwner } from "#api/access";
import type { LinkView, Mutation } from "#api/contract";
import { mustAllow } from "#api/problems";
import { claimedConflict, environmentOf, findAndClaim, journalChange, look } from "#api/records";
import { byId, ownEnvironment } from "#api/routes/environments";
import { type Call, newRequest, type Reply } from "#api/routes/machines";
import { LinkBody, LinkPatch } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { linkView, operationView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { EnvironmentRecord, LinkRecord } from "#model/objects";
import type { Operation } from "#model/plan";
import type { Journal } from "#ports/store";

export function linkRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, clock, ids, turns } = world;

  router.put(
    "/v1/environments/:environment/links",
    {
      config: { access: "declare" },
      schema: { params: Type.Object({ environment: Type.String() }), body: LinkBody },
    },
    (request, reply): Promise<Mutation<LinkView>> => {
      const machines = pairOf(request.body.machines);
      return turns.inTurn(machines.join("--"), () => declare(request, machines, reply));
    },
  );

  async function declare(
    request: Call & {
      readonly params: { readonly environment: string };
      readonly body: Static<typeof LinkBody>;
    },
    machines: readonly [string, string],
    reply: Reply,
  ): Promise<Mutation<LinkView>> {
    const { principal, body } = request;
    const drafted = await store.transaction(async (journal) => {
      const environment = await ownEnvironment(journal, request.params.environment, principal);
      const key = `${environment.id}/${machines.join("--")}`;
      const existing = await journal.objects.findByKey("link", key);
      if (existing !== undefined) {
        if (existing.claimed) throw claimedConflict(existing, importIdOf(environment, machines));
        const operation = await activeOperationOfLink(journal, existing);
        if (operation !== undefined || existing.spec.rateMbps === body.rate_mbps) {
          return { record: existing, operation, fresh: false };
        }
      } else {
        await checkMachines(journal, environment, machines);
      }
      const record: LinkRecord = {
        kind: "link",
        id: existing?.id ?? ids.next(),
        key,
        environmentId: environment.id,
        spec: { environmentId: environment.id, machines, rateMbps: body.rate_mbps },
        effective: { rateMbps: 0 }, // nothing is in force before its grant
        version: (existing?.version ?? 0) + 1,
        claimed: false,
        createdAtMs: existing?.createdAtMs ?? clock.nowMs(),
      };
      await journal.objects.put(record);
      await journalChange(journal, record, clock.nowMs());
      return { record, operation: undefined, fresh: true };
    });
    if (!drafted.fresh) return await answer(reply, drafted.record, drafted.operation);
    const { record } = drafted;
    let started = false;
    try {
      const asked = mustAllow(
        await gate.submit({
          ...newRequest(world, {
            call: request,
            principal,
            kind: "create",
            environmentId: record.spec.environmentId,
          }),
          links: [{ linkId: record.id, rateMbps: body.rate_mbps }],
        }),
      );
      started = true;
      return await answer(reply, record, asked.operation, 201);
    } finally {
      if (!started) await store.transaction((journal) => removeLink(journal, record.id));
    }
  }

  router.get(
    "/v1/links",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          machines: Type.Optional(Type.String({ description: "Two names joined by a comma" })),
        }),
      },
    },
    async (request) => {
      const { environment, machines } = request.query;
      const wanted = machines?.split(",").toSorted().join("--");
      const records = await store.read(async (journal) =>
        journal.objects.list(
          "link",
          environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id },
        ),
      );
      return {
        items: records
          .filter((one) => wanted === undefined || one.spec.machines.join("--") === wanted)
          .map(linkView),
      };
    },
  );

  router.get("/v1/links/:id", byId("read"), async (request) =>
    linkView(
      await store.transaction((journal) =>
        look(journal, "link", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/links/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: LinkPatch } },
    async (request, reply): Promise<Mutation<LinkView>> => {
      const { rate_mbps: rateMbps } = request.body;
      const record = await ownLink(request.params.id, request.principal);
      const asked = mustAllow(
        await gate.submit({
          ...newRequest(world, {
            call: request,
            principal: request.principal,
            kind: "update",
            environmentId: record.spec.environmentId,
          }),
          links: [{ linkId: record.id, rateMbps }],
        }),
      );
      return await answer(reply, record, asked.operation);
    },
  );

  router.delete(
    "/v1/links/:id",
    byId("declare"),
    async (request, reply): Promise<Mutation<LinkView>> => {
      const record = await ownLink(request.params.id, request.principal);
      const asked = mustAllow(
        await gate.submit({
          ...newRequest(world, {
            call: request,
            principal: request.principal,
            kind: "destroy",
            environmentId: record.spec.environmentId,
          }),
          links: [{ linkId: record.id, rateMbps: 0 }],
        }),
      );
      if (asked.operation === undefined) {
        await store.transaction((journal) => removeLink(journal, record.id));
      }
      return await answer(reply, record, asked.operation);
    },
  );

  async function ownLink(
    id: string,
    principal: Parameters<typeof checkOwner>[0],
  ): Promise<LinkRecord> {
    return await store.transaction(async (journal) => {
      const record = await findAndClaim(journal, "link", id);
      const environment = await environmentOf(journal, record.spec.environmentId);
      checkOwner(principal, environment.spec.owner);
      return record;
    });
  }

  async function removeLink(journal: Journal, id: string): Promise<void> {
    const record = await journal.objects.get("link", id);
    if (record === undefined) return;
    await journal.objects.remove("link", id);
    await journalChange(journal, record, clock.nowMs(), "object.deleted");
  }

  async function answer(
    reply: Reply,
    before: LinkRecord,
    operation: Operation | undefined,
    doneStatus = 200,
  ): Promise<Mutation<LinkView>> {
    reply.code(operation === undefined ? doneStatus : 202);
    const now = await store.read((journal) => journal.objects.get("link", before.id));
    return {
      object: now === undefined ? null : linkView(now),
      operation: operation === undefined ? null : operationView(operation),
    };
  }
}

function pairOf(machines: readonly [string, string]): readonly [string, string] {
  const [left, right] = machines;
  if (left === right) {
    throw new Fault("request.invalid", {
      where: "machines",
      attribute: "machines",
      problem: `a link joins two machines, not ${left} with itself`,
    });
  }
  return left < right ? [left, right] : [right, left];
}

function importIdOf(environment: EnvironmentRecord, machines: readonly [string, string]): string {
  return `${environment.spec.name}/${machines.join(",")}`;
}

async function checkMachines(
  journal: Journal,
  environment: EnvironmentRecord,
  machines: readonly string[],
): Promise<void> {
  for (const name of machines) {
    if ((await journal.objects.findByKey("machine", `${environment.id}/${name}`)) === undefined) {
      throw new Fault("object.unknown", {
        kind: "machine",
        id: `${environment.spec.name}/${name}`,
        attribute: "machines",
      });
    }
  }
}

/** An operation's machines do not name the link; its request does. */
async function activeOperationOfLink(
  journal: Journal,
  link: LinkRecord,
): Promise<Operation | undefined> {
  const active = await journal.operations.list({
    environmentId: link.spec.environmentId,
    states: ["pending", "running", "undoing"],
  });
  for (const operation of active) {
    const request = await journal.requests.get(operation.requestId);
    if (request?.links.some((ask) => ask.linkId === link.id)) return operation;
  }
  return undefined;
}
