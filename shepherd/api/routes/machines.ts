/**
 * Machines: declared by PUT, changed by PATCH, destroyed by DELETE; each becomes a request at the gate, and what the
 * gate starts is answered with 202. The specification's rules are in api/machine-spec.ts.
 */
import { type Static, Type } from "typebox";
import { checkOwner, type Principal, subjectOf } from "#api/access";
import { approvalView } from "#api/approval-views";
import type { MachineView, Mutation } from "#api/contract";
import { declarationIn } from "#api/declaration";
import {
  checkCards,
  checkDisks,
  declaredMachine,
  patchedSpec,
  refuseStale,
  rememberGrants,
  removeDraft,
} from "#api/machine-spec";
import { createMachineViews } from "#api/machine-views";
import { mustAllow } from "#api/problems";
import {
  activeOperationOf,
  change,
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
import { Fault } from "#model/fault";
import type { MachineRecord } from "#model/objects";
import type { MachineAsk, Request } from "#model/request";
import type { EnvironmentId } from "#model/units";
import { hasCards } from "#planner/cards";
import { newRequest as makeRequest } from "#policy/request";
import type { Journal } from "#ports/store";

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

const KeepDisk = Type.Object({ keep_disk: Type.Optional(Type.Literal("1")) });

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
      const record = await settled(request.params.id, request);
      refuseStale(await views.of(record), request.body.planned_from);
      return await update(request, reply, record, request.body);
    },
  );

  router.delete(
    "/v1/machines/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, querystring: KeepDisk } },
    async (request, reply): Promise<Mutation<MachineView>> => {
      const record = await settled(request.params.id, request);
      if (record.spec.deletionProtection === true) {
        throw new Fault("object.protected", { kind: "machine", key: record.spec.name });
      }
      if (record.effective.hostId === "") {
        await store.transaction((journal) => removeDraft(journal, record, clock.nowMs()));
        return { object: null, operation: null };
      }
      await store.transaction((journal) => rememberGrants(journal, record));
      const asked = mustAllow(
        await gate.submit({
          ...ask(request, request.principal, "destroy", record),
          machines: [{ machineId: record.id }],
          ...(request.query.keep_disk === undefined ? {} : { keepDisks: true as const }),
        }),
      );
      return await answer(reply, record.key, asked);
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
    const { name } = call.params;
    const id = ids.next();
    const found = await store.transaction(async (journal) => {
      const environment = await ownEnvironment(journal, call.params.environment, principal);
      const key = `${environment.id}/${name}`;
      const existing = await journal.objects.findByKey("machine", key);
      if (existing !== undefined) {
        if (existing.claimed) throw claimedMachine(existing, importId(environment, name));
        const operation = await activeOperationOf(journal, existing.id);
        if (operation !== undefined)
          return { kind: "running", record: existing, operation } as const;
        // It never got as far as a host: declared anew.
        if (existing.effective.hostId !== "") return { kind: "there", record: existing } as const;
        await removeDraft(journal, existing, clock.nowMs());
      }
      const declaration = declarationIn(world, environment);
      const declared = await declaredMachine(journal, {
        ...declaration,
        name,
        id,
        body: call.body,
      });
      return { kind: "new", key, environment, ...declared } as const;
    });
    switch (found.kind) {
      case "running":
        return await answer(reply, found.record.key, { operation: found.operation });
      case "there":
        return await adopt(call, reply, found.record);
      case "new": {
        const asked = mustAllow(
          await gate.submit({
            ...newRequest(world, {
              call,
              principal,
              kind: "create",
              environmentId: found.environment.id,
            }),
            machines: [found.ask],
            declares: { machines: [{ id, spec: found.spec }] },
          }),
        );
        return await answer(reply, found.key, asked, 201);
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
    const patched = await store.read(async (journal) => {
      const environment = await environmentOf(journal, record.spec.environmentId);
      const result = patchedSpec(record, body, declarationIn(world, environment));
      await checkDisks(journal, record.id, result.spec);
      await checkCards(journal, record, { spec: result.spec, nowMs: clock.nowMs() });
      return result;
    });
    const { networks } = await views.of(record);
    const isDone =
      hasCards(record.effective.nics, patched.spec.networks) &&
      networks.every(({ plugged }) => plugged);
    if (sameData(patched.spec, record.spec) && patched.ask === undefined && isDone) {
      return await answer(reply, record.key, {});
    }
    const { spec } = patched;
    const asked = mustAllow(
      await gate.submit({
        ...ask(call, call.principal, "update", record),
        machines: [patched.ask ?? { machineId: record.id }],
        update: { baseline: spec.baseline, envelope: spec.envelope, spec },
      }),
    );
    return await answer(reply, record.key, asked);
  }

  /** The machine when nothing works on it any more; an operation under way is given time to end. */
  async function settled(
    id: string,
    call: Pick<Call, "headers" | "principal">,
  ): Promise<MachineRecord> {
    const present = () =>
      store.transaction(async (journal) => {
        const record = await claimed(journal, await findAndClaim(journal, "machine", id), call);
        const environment = await environmentOf(journal, record.spec.environmentId);
        checkOwner(call.principal, environment.spec.owner);
        await refuseMember(journal, record);
        return { record, operation: await activeOperationOf(journal, record.id) };
      });
    const first = await present();
    if (first.operation === undefined) return first.record;
    await operations.wait(first.operation.id, busyWaitMs);
    return (await present()).record;
  }

  /** Writes down who claims it first; another state that names itself is told who that was. */
  async function claimed(
    journal: Journal,
    record: MachineRecord,
    call: Pick<Call, "headers" | "principal">,
  ): Promise<MachineRecord> {
    const { managedBy } = record.effective;
    const manager = managerOf(call);
    if (!record.claimed || managedBy === manager) return record;
    if (managedBy === undefined) {
      return await change(journal, record, {
        effective: { ...record.effective, managedBy: manager },
      });
    }
    if (call.headers["drover-manager"] === undefined) return record;
    throw new Fault("conflict.managed", { kind: "machine", key: record.spec.name, managedBy });
  }

  /** A machine of a group changes and goes with its group. */
  async function refuseMember(journal: Journal, { spec }: MachineRecord): Promise<void> {
    const { group, environmentId, name } = spec;
    if (group === undefined) return;
    const found = await journal.objects.findByKey("group", `${environmentId}/${group}`);
    if (found !== undefined) throw new Fault("object.of_group", { key: name, group });
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
    key: string,
    given: Partial<Pick<GateAnswer, "operation" | "approval">>,
    doneStatus = 200,
  ): Promise<Mutation<MachineView>> {
    const { operation, approval } = given;
    const isWaiting = approval?.state === "pending";
    reply.code(operation === undefined && !isWaiting ? doneStatus : 202);
    const now = await store.read(async (journal) => ({
      record: await journal.objects.findByKey("machine", key),
      approval: isWaiting ? await approvalView(journal, approval) : undefined,
    }));
    return {
      object: now.record === undefined ? null : await views.of(now.record),
      operation: operation === undefined ? null : operationView(operation),
      ...(now.approval === undefined ? {} : { approval: now.approval }),
    };
  }
}

/** Who manages what this call claims: the state's own name where it gives one, else the token's. */
export function managerOf(call: Pick<Call, "headers" | "principal">): string {
  const given = call.headers["drover-manager"];
  return typeof given === "string" && given !== "" ? given.slice(0, 128) : call.principal.name;
}

function claimedMachine(record: MachineRecord, as: string): Fault {
  const { managedBy } = record.effective;
  if (managedBy === undefined) return claimedConflict(record, as);
  const { kind, id } = record;
  return new Fault("conflict.exists", { kind, key: as, existingId: id, importId: as, managedBy });
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
  return makeRequest(world, {
    kind: of.kind,
    environmentId: of.environmentId,
    subject: subjectOf(of.principal, "stack"),
    reason: `${of.kind} by the stack`,
    ...(typeof key === "string" && key !== ""
      ? { idempotencyKey: `${of.call.method} ${of.call.url} ${key}`.slice(0, 400) }
      : {}),
  });
}
