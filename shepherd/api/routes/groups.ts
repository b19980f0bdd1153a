/**
 * Groups: machines of one template that are declared, changed, scaled and destroyed as one. Every change is one request
 * at the gate and one operation: all of it, or none. What a group consists of is planner/groups.ts.
 */
import { type Static, Type } from "typebox";
import { checkOwner } from "#api/access";
import { approvalView } from "#api/approval-views";
import type { GroupView, Mutation } from "#api/contract";
import { declarationIn } from "#api/declaration";
import { declaredGroup, destroyedGroup, patchedGroup } from "#api/group-spec";
import { mustAllow } from "#api/problems";
import { claimedConflict, environmentOf, findAndClaim, importId, look } from "#api/records";
import { byId, ownEnvironment } from "#api/routes/environments";
import { type Call, newRequest, type Reply } from "#api/routes/machines";
import { GroupBody, GroupPatch, Name } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { groupView, operationView } from "#api/views";
import type { ApiWorld, GateAnswer } from "#api/world";
import { Fault } from "#model/fault";
import type { EnvironmentRecord, GroupRecord } from "#model/objects";
import type { Operation } from "#model/plan";
import { membersOf } from "#planner/groups";
import type { Journal } from "#ports/store";

/** A change that meets a running operation waits for it, then looks again. */
const busyWaitMs = 30_000;
const activeStates: readonly Operation["state"][] = ["pending", "running", "undoing"];

export function groupRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, ids, operations, turns } = world;

  router.put(
    "/v1/environments/:environment/groups/:name",
    {
      config: { access: "declare" },
      schema: { params: Type.Object({ environment: Type.String(), name: Name }), body: GroupBody },
    },
    (request, reply): Promise<Mutation<GroupView>> =>
      turns.inTurn(`group ${request.params.name}`, () => declare(request, reply)),
  );

  router.get(
    "/v1/groups",
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
      const { environment, name } = request.query;
      return await store.read(async (journal) => {
        const records = await journal.objects.list(
          "group",
          environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id },
        );
        const named = records.filter((one) => name === undefined || one.spec.name === name);
        const items: GroupView[] = [];
        for (const record of named) items.push(await shown(journal, record));
        return { items };
      });
    },
  );

  router.get("/v1/groups/:id", byId("read"), async (request) =>
    store.transaction(async (journal) =>
      shown(journal, await look(journal, "group", request.params.id, request.principal)),
    ),
  );

  router.patch(
    "/v1/groups/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: GroupPatch } },
    async (request, reply): Promise<Mutation<GroupView>> => {
      const record = await settled(request.params.id, request);
      const { body } = request;
      const planned = body.planned_from?.machine_count;
      if (planned !== undefined && planned !== record.effective.machineCount) {
        throw new Fault("plan.stale", {
          machine: record.spec.name,
          attribute: "machine_count",
          planned,
          now: record.effective.machineCount,
        });
      }
      return await update(request, reply, record, body);
    },
  );

  router.delete(
    "/v1/groups/:id",
    byId("declare"),
    async (request, reply): Promise<Mutation<GroupView>> => {
      const record = await settled(request.params.id, request);
      if (record.spec.template.deletionProtection === true) {
        throw new Fault("object.protected", { kind: "group", key: record.spec.name });
      }
      const ask = await store.read((journal) => destroyedGroup(journal, record));
      const asked = mustAllow(
        await gate.submit({ ...requestFor(request, "destroy", record.spec.environmentId), ...ask }),
      );
      return await answer(reply, record.key, asked);
    },
  );

  async function declare(
    call: Call & {
      readonly params: { readonly environment: string; readonly name: string };
      readonly body: Static<typeof GroupBody>;
    },
    reply: Reply,
  ): Promise<Mutation<GroupView>> {
    const { name } = call.params;
    const id = ids.next();
    const found = await store.read(async (journal) => {
      const environment = await ownEnvironment(journal, call.params.environment, call.principal);
      const key = `${environment.id}/${name}`;
      const existing = await journal.objects.findByKey("group", key);
      if (existing !== undefined) {
        if (existing.claimed) throw claimedConflict(existing, importId(environment, name));
        return { key, existing, operation: await runningOf(journal, existing) };
      }
      const declaration = declarationOf(environment);
      const ask = await declaredGroup(journal, { ...declaration, id, name, body: call.body });
      return { key, environment, ask };
    });
    const { key } = found;
    if (found.existing !== undefined) {
      const { operation } = found;
      if (operation !== undefined) return await answer(reply, key, { operation });
      return await update(call, reply, found.existing, call.body);
    }
    const asked = mustAllow(
      await gate.submit({ ...requestFor(call, "create", found.environment.id), ...found.ask }),
    );
    return await answer(reply, key, asked, 201);
  }

  async function update(
    call: Call,
    reply: Reply,
    record: GroupRecord,
    body: Static<typeof GroupPatch>,
  ): Promise<Mutation<GroupView>> {
    const { environmentId } = record.spec;
    const ask = await store.read(async (journal) => {
      const environment = await environmentOf(journal, environmentId);
      return await patchedGroup(journal, { ...declarationOf(environment), record, body });
    });
    if (ask === undefined) return await answer(reply, record.key, {});
    const asked = mustAllow(
      await gate.submit({ ...requestFor(call, "update", environmentId), ...ask }),
    );
    return await answer(reply, record.key, asked);
  }

  function declarationOf(environment: EnvironmentRecord) {
    return { ...declarationIn(world, environment), newId: () => ids.next() };
  }

  /** The group when nothing works on it any more. */
  async function settled(id: string, call: Call): Promise<GroupRecord> {
    const present = () =>
      store.transaction(async (journal) => {
        const record = await findAndClaim(journal, "group", id);
        const environment = await environmentOf(journal, record.spec.environmentId);
        checkOwner(call.principal, environment.spec.owner);
        return { record, operation: await runningOf(journal, record) };
      });
    const first = await present();
    if (first.operation === undefined) return first.record;
    await operations.wait(first.operation.id, busyWaitMs);
    return (await present()).record;
  }

  function requestFor(call: Call, kind: "create" | "update" | "destroy", environmentId: string) {
    return newRequest(world, { call, principal: call.principal, kind, environmentId });
  }

  async function answer(
    reply: Reply,
    key: string,
    given: Partial<Pick<GateAnswer, "operation" | "approval">>,
    doneStatus = 200,
  ): Promise<Mutation<GroupView>> {
    const { operation, approval } = given;
    const isWaiting = approval?.state === "pending";
    reply.code(operation === undefined && !isWaiting ? doneStatus : 202);
    return await store.read(async (journal) => {
      const record = await journal.objects.findByKey("group", key);
      return {
        object: record === undefined ? null : await shown(journal, record),
        operation: operation === undefined ? null : operationView(operation),
        ...(isWaiting ? { approval: await approvalView(journal, approval) } : {}),
      };
    });
  }
}

/** An operation of any of its machines that has not ended, or the one that creates it. */
async function runningOf(journal: Journal, group: GroupRecord): Promise<Operation | undefined> {
  const { environmentId } = group.spec;
  for (const operation of await journal.operations.list({ environmentId, states: activeStates })) {
    const request = await journal.requests.get(operation.requestId);
    if (request?.scale?.groupId === group.id) return operation;
  }
  return undefined;
}

async function shown(journal: Journal, record: GroupRecord): Promise<GroupView> {
  const { environmentId } = record.spec;
  const machines = await journal.objects.list("machine", { environmentId });
  const environment = await journal.objects.get("environment", environmentId);
  return groupView(record, membersOf(record.spec, machines), environment);
}
