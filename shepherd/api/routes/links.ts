/** Links: a promised rate between two machines of an environment, or one of them and its network. Each change passes the gate like a machine's. */
import { type Static, Type } from "typebox";
import { checkOwner } from "#api/access";
import { approvalView } from "#api/approval-views";
import type { LinkView, Mutation } from "#api/contract";
import { checkEnds, type Ends, endsOf, importIdOf } from "#api/link-ends";
import { mustAllow } from "#api/problems";
import {
  claimedConflict,
  environmentOf,
  findAndClaim,
  journalChange,
  look,
  sameData,
} from "#api/records";
import { byId, ownEnvironment } from "#api/routes/environments";
import { type Call, newRequest, type Reply } from "#api/routes/machines";
import { LinkBody, LinkPatch } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { linkView, operationView } from "#api/views";
import type { ApiWorld, GateAnswer } from "#api/world";
import { Fault } from "#model/fault";
import { type LinkRecord, type LinkSpec, nameOfLink } from "#model/objects";
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
      const ends = endsOf(request.body);
      return turns.inTurn(nameOfLink(ends), () => declare(request, ends, reply));
    },
  );

  async function declare(
    request: Call & {
      readonly params: { readonly environment: string };
      readonly body: Static<typeof LinkBody>;
    },
    ends: Ends,
    reply: Reply,
  ): Promise<Mutation<LinkView>> {
    const { principal, body } = request;
    const found = await store.read(async (journal) => {
      const environment = await ownEnvironment(journal, request.params.environment, principal);
      const key = `${environment.id}/${nameOfLink(ends)}`;
      const existing = await journal.objects.findByKey("link", key);
      const spec: LinkSpec = {
        environmentId: environment.id,
        ...ends,
        rateMbps: body.rate_mbps,
        ...(body.latency == null ? {} : { latency: body.latency }),
        ...(body.burst_kib == null ? {} : { burstKib: body.burst_kib }),
      };
      if (existing === undefined) await checkEnds(journal, environment, ends);
      else if (existing.claimed) throw claimedConflict(existing, importIdOf(environment, ends));
      const operation = existing && (await activeOperationOfLink(journal, existing));
      return { environment, key, existing, spec, operation };
    });
    const { environment, key, existing, spec, operation } = found;
    const isThere = existing !== undefined && sameData(existing.spec, spec);
    if (operation !== undefined || isThere) return await answer(reply, key, { operation });
    const id = existing?.id ?? ids.next();
    const asked = mustAllow(
      await gate.submit({
        ...newRequest(world, {
          call: request,
          principal,
          // What a guest added, or an earlier word of this stack, is taken over with the rate that is said now.
          kind: existing === undefined ? "create" : "update",
          environmentId: environment.id,
        }),
        links: [{ linkId: id, rateMbps: body.rate_mbps }],
        declares: { links: [{ id, spec }] },
      }),
    );
    return await answer(reply, key, asked, 201);
  }

  router.get(
    "/v1/links",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          machines: Type.Optional(Type.String({ description: "Two names joined by a comma" })),
          network: Type.Optional(Type.String({ description: "The other end of one machine" })),
        }),
      },
    },
    async (request) => {
      const { environment, machines, network } = request.query;
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
          .filter(({ spec }) => wanted === undefined || spec.machines.join("--") === wanted)
          .filter(({ spec }) => wanted === undefined || spec.network === network)
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
      refuseGroupLink(record);
      refuseStaleRate(record, request.body.planned_from?.rate_mbps);
      const wanted = request.body.planned_effective?.rate_mbps ?? rateMbps;
      const asked = mustAllow(
        await gate.submit({
          ...newRequest(world, {
            call: request,
            principal: request.principal,
            kind: "update",
            environmentId: record.spec.environmentId,
          }),
          links: [{ linkId: record.id, rateMbps: wanted }],
          declares: { links: [{ id: record.id, spec: { ...record.spec, rateMbps } }] },
        }),
      );
      return await answer(reply, record.key, asked);
    },
  );

  router.delete(
    "/v1/links/:id",
    byId("declare"),
    async (request, reply): Promise<Mutation<LinkView>> => {
      const record = await ownLink(request.params.id, request.principal);
      refuseGroupLink(record);
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
      if (asked.decision.effect === "allow" && asked.operation === undefined) {
        await store.transaction((journal) => removeLink(journal, record.id));
      }
      return await answer(reply, record.key, asked);
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
    key: string,
    given: Partial<Pick<GateAnswer, "operation" | "approval">>,
    doneStatus = 200,
  ): Promise<Mutation<LinkView>> {
    const { operation, approval } = given;
    const isWaiting = approval?.state === "pending";
    reply.code(operation === undefined && !isWaiting ? doneStatus : 202);
    const now = await store.read(async (journal) => ({
      record: await journal.objects.findByKey("link", key),
      approval: isWaiting ? await approvalView(journal, approval) : undefined,
    }));
    return {
      object: now.record === undefined ? null : linkView(now.record),
      operation: operation === undefined ? null : operationView(operation),
      ...(now.approval === undefined ? {} : { approval: now.approval }),
    };
  }
}

/** Fault `plan.stale` when the rate that the plan was made from has changed since. */
function refuseStaleRate(record: LinkRecord, planned: number | undefined): void {
  const now = record.effective.rateMbps;
  if (planned === undefined || planned === now) return;
  const machine = nameOfLink(record.spec);
  throw new Fault("plan.stale", { machine, attribute: "rate_mbps", planned, now });
}

/** The links of a group's topology change and go with the group. */
function refuseGroupLink({ spec }: LinkRecord): void {
  if (spec.group === undefined) return;
  throw new Fault("object.of_group", { key: nameOfLink(spec), group: spec.group });
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
