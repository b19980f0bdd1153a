/** Operations: what runs, what ended, waiting for one, cancelling one. */
import { Type } from "typebox";
import { checkOwner } from "#api/access";
import type { OperationView } from "#api/contract";
import { environmentOf } from "#api/records";
import { byId, Params } from "#api/routes/environments";
import type { ApiRouter } from "#api/server";
import { operationView, stepView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { Operation, StepRecord } from "#model/plan";
import { expand } from "#operations/expand";
import type { Journal } from "#ports/store";

/** Longest long poll; clients ask again. */
const maxWaitMs = 55_000;
const defaultLimit = 100;

export function operationRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, operations } = world;
  const get = async (id: string): Promise<Operation> => {
    const found = await store.read((journal) => journal.operations.get(id));
    if (found === undefined) throw new Fault("object.unknown", { kind: "operation", id });
    return found;
  };

  router.get(
    "/v1/operations",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          machine: Type.Optional(Type.String({ description: "Id of a machine" })),
          active: Type.Optional(Type.String({ description: "1: only those that have not ended" })),
          state: Type.Optional(Type.Enum(["stuck"])),
          limit: Type.Optional(Type.String({ pattern: "^\\d{1,4}$" })),
        }),
      },
    },
    async (request): Promise<{ items: OperationView[] }> => {
      const { environment, machine, active, state, limit } = request.query;
      const found = await store.read(async (journal) =>
        journal.operations.list({
          ...(environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id }),
          ...(machine === undefined ? {} : { machineId: machine }),
          ...(active === "1" ? { states: ["pending", "running", "undoing"] as const } : {}),
          ...(state === undefined ? {} : { states: [state] as const }),
          limit: Number(limit ?? defaultLimit),
        }),
      );
      return { items: found.map(operationView) };
    },
  );

  router.get(
    "/v1/operations/:id",
    {
      config: { access: "read" },
      schema: {
        params: Params,
        querystring: Type.Object({
          wait_ms: Type.Optional(Type.String({ pattern: "^\\d{1,9}$" })),
        }),
      },
    },
    async (request): Promise<OperationView> => {
      const waitMs = Math.min(Number(request.query.wait_ms ?? 0), maxWaitMs);
      const now = await get(request.params.id);
      if (now.endedAtMs !== undefined || waitMs === 0) return operationView(now);
      const gone = new AbortController();
      const leave = () => gone.abort();
      request.raw.socket.once("close", leave);
      try {
        return operationView(await operations.wait(now.id, waitMs, gone.signal));
      } finally {
        request.raw.socket.off("close", leave);
      }
    },
  );

  router.get("/v1/operations/:id/steps", byId("read"), async (request) => {
    const operation = await get(request.params.id);
    const [steps, coming] = await store.read(async (journal) => [
      await journal.steps.ofOperation(operation.id),
      await stepsToCome(journal, operation),
    ]);
    const begun = new Set(steps.map(({ n }) => n));
    return { items: [...steps, ...coming.filter(({ n }) => !begun.has(n))].map(stepView) };
  });

  router.post(
    "/v1/operations/:id/retry",
    { config: { access: "operate" }, schema: { params: Params } },
    async (request): Promise<OperationView> => {
      const { id } = await get(request.params.id);
      return operationView(await operations.retry(id));
    },
  );

  router.post(
    "/v1/operations/:id/cancel",
    // Who may start it may end it: an apply that is interrupted cancels its own.
    { config: { access: "declare" }, schema: { params: Params } },
    async (request): Promise<OperationView> => {
      const { id, environmentId } = await get(request.params.id);
      await store.read(async (journal) => {
        const environment = await journal.objects.get("environment", environmentId);
        checkOwner(request.principal, environment?.spec.owner ?? "");
      });
      return operationView(await operations.cancel(id));
    },
  );
}

/** What it would do if nothing comes between, as its plan expands; none when it turns round or has ended. */
async function stepsToCome(journal: Journal, operation: Operation): Promise<readonly StepRecord[]> {
  const { id: operationId, state, planId } = operation;
  if (state !== "pending" && state !== "running") return [];
  const plan = await journal.plans.get(planId);
  if (plan === undefined) return [];
  const machines = await journal.objects.list("machine", {
    environmentId: operation.environmentId,
  });
  const nameOf = (id: string) => machines.find((one) => one.id === id)?.spec.name ?? id;
  return expand(plan, nameOf).map(({ name }, n) => ({ operationId, n, name, state: "pending" }));
}
