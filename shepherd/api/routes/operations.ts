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
import type { Operation } from "#model/plan";

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
    const { id } = await get(request.params.id);
    const steps = await store.read((journal) => journal.steps.ofOperation(id));
    return { items: steps.map(stepView) };
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
