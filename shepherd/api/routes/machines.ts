/**
 * Machines: declared by PUT, changed by PATCH, destroyed by DELETE; each becomes a request at the gate, and what the
 * gate starts is answered with 202. The specification's rules are in api/machine-spec.ts.
 */
import { type Static, Type } from "typebox";
import { checkOwner, type Principal, subjectOf } from "#api/access";
import type { MachineView, Mutation } from "#api/contract";
import {
  type Drafted,
  draftMachine,
  patchedSpec,
  refuseStale,
  rememberGrants,
  removeDraft,
} from "#api/machine-spec";
import { createMachineViews } from "#api/machine-views";
import { mustAllow } from "#api/problems";
import {
  activeOperationOf,
  claimedConflict,
  environmentOf,
  findAndClaim,
  importId,
  look,
  sameData,
} from "#api/records";
import { byId, ownEnvironment } from "#api/routes/environments";
import { MachineBody, MachinePatch, Name } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { operationView } from "#api/views";
import type { ApiWorld, GateAnswer } from "#api/world";
import type { MachineRecord } from "#model/objects";
import type { Operation } from "#model/plan";
import type { MachineAsk, Request } from "#model/request";
import type { EnvironmentId } from "#model/units";

/** What a handler needs of Fastify's request and reply. */
export interface Call {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly principal: Principal;
}
export interface Reply {
  code(status: number): unknown;
}

/** A change that meets a running operation waits for it, then looks again. */
const busyWaitMs = 30_000;

export function machineRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, clock, ids, operations, turns } = world;
  const views = createMachineViews(world);

  router.put(
    "/v1/environments/:environment/machines/:name",
    {
      config: { access: "declare" },
      schema: {
        params: Type.Object({ environment: Type.String(), name: Name }),
        body: MachineBody,
      },
    },
    // By name alone: the environment may be given by name or id.
    (request, reply): Promise<Mutation<MachineView>> =>
      turns.inTurn(request.params.name, () => declare(request, reply)),
  );

  router.get(
    "/v1/machines",
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
      const records = await store.read(async (journal) =>
        journal.objects.list(
          "machine",
          environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id },
        ),
      );
      return {
        items: await views.ofAll(
          records.filter((one) => name === undefined || one.spec.name === name),
        ),
      };
    },
  );

  router.get("/v1/machines/:id", byId("read"), async (request) =>
    views.of(
      await store.transaction((journal) =>
        look(journal, "machine", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/machines/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: MachinePatch } },
    async (request, reply): Promise<Mutation<MachineView>> => {
      const record = await settled(request.params.id, request.principal);
      refuseStale(await views.of(record), request.body.planned_from);
      return await update(request, reply, record, request.body);
    },
  );

  router.delete(
    "/v1/machines/:id",
    byId("declare"),
    async (request, reply): Promise<Mutation<MachineView>> => {
      const record = await settled(request.params.id, request.principal);
      if (record.effective.hostId === "") {
        await store.transaction((journal) => removeDraft(journal, record, clock.nowMs()));
        return { object: null, operation: null };
      }
      await store.transaction((journal) => rememberGrants(journal, record));
      const asked = mustAllow(
        await gate.submit({
          ...ask(request, request.principal, "destroy", record),
          machines: [{ machineId: record.id }],
        }),
      );
      return await answer(reply, record, asked.operation);
    },
  );

  async function declare(
    call: Call & {
      readonly params: { readonly environment: string; readonly name: string };
      readonly body: Static<typeof MachineBody>;
    },
    reply: Reply,
  ): Promise<Mutation<MachineView>> {
    const { principal } = call;
    const drafted = await store.transaction(async (journal): Promise<Drafted> => {
      const environment = await ownEnvironment(journal, call.params.environment, principal);
      const name = call.params.name;
      const existing = await journal.objects.findByKey("machine", `${environment.id}/${name}`);
      if (existing !== undefined) {
        if (existing.claimed) throw claimedConflict(existing, importId(environment, name));
        const operation = await activeOperationOf(journal, existing.id);
        if (operation !== undefined) return { kind: "running", record: existing, operation };
        // It never got as far as a host (a denial or a crash came between): declared anew.
        if (existing.effective.hostId !== "") return { kind: "there", record: existing };
        await removeDraft(journal, existing, clock.nowMs());
      }
      return await draftMachine(journal, {
        environment,
        name,
        body: call.body,
        id: ids.next(),
        nowMs: clock.nowMs(),
        siteIds: world.siteIds,
      });
    });
    switch (drafted.kind) {
      case "running":
        return await answer(reply, drafted.record, drafted.operation);
      case "there":
        return await adopt(call, reply, drafted.record);
      case "drafted": {
        const asked = await submitOrRemove(drafted.record, {
          ...ask(call, principal, "create", drafted.record),
          machines: [drafted.ask],
        });
        return await answer(reply, drafted.record, asked.operation, 201);
      }
    }
  }

  /** An unclaimed machine that runs already: this state takes it over, with the words that it says now. */
  async function adopt(
    call: Call & { readonly body: Static<typeof MachineBody> },
    reply: Reply,
    record: MachineRecord,
  ): Promise<Mutation<MachineView>> {
    const { image_id: _image, start_from: _start, ...body } = call.body;
    return await update(call, reply, record, body);
  }

  async function update(
    call: Call,
    reply: Reply,
    record: MachineRecord,
    body: Static<typeof MachinePatch>,
  ): Promise<Mutation<MachineView>> {
    const patched = patchedSpec(record, body, world.siteIds);
    if (sameData(patched.spec, record.spec) && patched.ask === undefined) {
      return await answer(reply, record, undefined);
    }
    const { spec } = patched;
    const asked = mustAllow(
      await gate.submit({
        ...ask(call, call.principal, "update", record),
        machines: [patched.ask ?? { machineId: record.id }],
        update: { baseline: spec.baseline, envelope: spec.envelope, spec },
      }),
    );
    return await answer(reply, record, asked.operation);
  }

  /** The machine when nothing works on it any more; an operation under way is given time to end. */
  async function settled(id: string, principal: Principal): Promise<MachineRecord> {
    const present = () =>
      store.transaction(async (journal) => {
        const record = await findAndClaim(journal, "machine", id);
        const environment = await environmentOf(journal, record.spec.environmentId);
        checkOwner(principal, environment.spec.owner);
        return { record, operation: await activeOperationOf(journal, record.id) };
      });
    const first = await present();
    if (first.operation === undefined) return first.record;
    await operations.wait(first.operation.id, busyWaitMs);
    return (await present()).record;
  }

  /** A record that was only drafted is taken back when the gate says no or fails before it started anything. */
  async function submitOrRemove(record: MachineRecord, request: Request): Promise<GateAnswer> {
    let started = false;
    try {
      const answered = mustAllow(await gate.submit(request));
      started = true;
      return answered;
    } finally {
      if (!started) {
        await store.transaction(async (journal) => {
          const now = await journal.objects.get("machine", record.id);
          if (now === undefined || now.effective.hostId !== "") return;
          if ((await activeOperationOf(journal, record.id)) !== undefined) return;
          await removeDraft(journal, now, clock.nowMs());
        });
      }
    }
  }

  function ask(
    request: Omit<Call, "principal">,
    principal: Principal,
    kind: Request["kind"],
    record: MachineRecord,
  ): Request & { readonly machines: readonly MachineAsk[] } {
    return newRequest(world, {
      call: request,
      principal,
      kind,
      environmentId: record.spec.environmentId,
    });
  }

  async function answer(
    reply: Reply,
    before: MachineRecord,
    operation: Operation | undefined,
    doneStatus = 200,
  ): Promise<Mutation<MachineView>> {
    reply.code(operation === undefined ? doneStatus : 202);
    const now = await store.read((journal) => journal.objects.get("machine", before.id));
    return {
      object: now === undefined ? null : await views.of(now),
      operation: operation === undefined ? null : operationView(operation),
    };
  }
}

/** A request of the stack, with the call's idempotency key, so that a repeated call is the same request. */
export function newRequest(
  world: Pick<ApiWorld, "ids" | "clock">,
  of: {
    readonly call: Omit<Call, "principal">;
    readonly principal: Principal;
    readonly kind: Request["kind"];
    readonly environmentId: EnvironmentId;
  },
): Request {
  const key = of.call.headers["idempotency-key"];
  return {
    id: world.ids.next(),
    kind: of.kind,
    environmentId: of.environmentId,
    subject: subjectOf(of.principal, "stack"),
    machines: [],
    links: [],
    reason: `${of.kind} by the stack`,
    idempotencyKey:
      typeof key === "string" && key !== ""
        ? `${of.call.method} ${of.call.url} ${key}`.slice(0, 400)
        : world.ids.next(),
    receivedAtMs: world.clock.nowMs(),
  };
}
