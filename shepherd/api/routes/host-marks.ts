/** What people say about hosts: drained, confirmed dead, back again. The word is journaled; what follows, others do. */
import { Type } from "typebox";
import type { DifferenceView, DrainView, HostMarkView, JanitorAnswer } from "#api/contract";
import { byId, Params } from "#api/routes/environments";
import type { ApiRouter } from "#api/server";
import { operationView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import { toWire } from "#model/wire";
import type { DrainProgress } from "#policy/drains";

const operate = { config: { access: "operate" as const }, schema: { params: Params } };
const Reason = Type.String({ minLength: 1, maxLength: 200 });

export function hostMarkRoutes(router: ApiRouter, world: ApiWorld): void {
  const { hostCare } = world;
  if (hostCare === undefined) return;
  const { marks, drains, janitor } = hostCare;
  const progressOf = async (hostId: string): Promise<DrainView> => {
    const progress = await drains.progress(hostId);
    if (progress === undefined) throw new Fault("object.unknown", { kind: "drain", id: hostId });
    return drainView(progress);
  };

  router.get("/v1/host-marks", { config: { access: "read" } }, async () => ({
    items: marks.list().map((mark): HostMarkView => toWire(mark)),
  }));

  router.post(
    "/v1/hosts/:id/drain",
    {
      config: { access: "operate" },
      schema: { params: Params, body: Type.Object({ reason: Reason }) },
    },
    async (request): Promise<DrainView> => {
      const hostId = request.params.id;
      await marks.drain({
        hostId,
        by: request.principal.name,
        reason: request.body.reason,
      });
      return progressOf(hostId);
    },
  );

  router.get("/v1/hosts/:id/drain", byId("read"), (request) => progressOf(request.params.id));

  router.delete("/v1/hosts/:id/drain", operate, async (request) => {
    await marks.lift(request.params.id, "draining", request.principal.name);
    return { host_id: request.params.id };
  });

  router.post(
    "/v1/hosts/:id/confirm-dead",
    {
      config: { access: "operate" },
      schema: {
        params: Params,
        body: Type.Object({ reason: Reason, fenced_by: Reason }),
      },
    },
    async (request): Promise<HostMarkView> => {
      const { reason, fenced_by: fencedBy } = request.body;
      // The last look may be seconds old: a host that came back meanwhile is not dead.
      await world.sensing.refresh([request.params.id]);
      const mark = await marks.confirmDead({
        hostId: request.params.id,
        by: request.principal.name,
        reason,
        fencedBy,
      });
      hostCare.kick();
      return toWire(mark);
    },
  );

  router.post("/v1/hosts/:id/return", operate, async (request) => {
    const { id } = request.params;
    await world.sensing.refresh([id]);
    return { host_id: id, removed: await janitor.welcome(id, request.principal.name) };
  });

  router.get("/v1/differences", { config: { access: "read" } }, async () => ({
    items: (await janitor.sweep()).map((one): DifferenceView => toWire(one)),
  }));

  router.post(
    "/v1/janitor",
    {
      config: { access: "operate" },
      schema: { body: Type.Object({ remove: Type.Boolean() }) },
    },
    async (request): Promise<JanitorAnswer> => {
      const litter = (await janitor.sweep()).filter((one) => one.litter !== undefined);
      const operations = request.body.remove ? await janitor.clean(request.principal.name) : [];
      return {
        litter: litter.map((one) => toWire(one)),
        operations: operations.map(operationView),
      };
    },
  );
}

export function drainView({ mark, machines, moving, blockers }: DrainProgress): DrainView {
  return {
    host_id: mark.hostId,
    by: mark.by,
    reason: mark.reason,
    since_ms: mark.sinceMs,
    machines,
    moving: moving.map(({ machine, operationId }) => ({
      machine: machine.spec.name,
      environment_id: machine.spec.environmentId,
      operation: operationId,
    })),
    blockers: blockers.map(({ machine, code, message }) => ({
      machine: machine.spec.name,
      environment_id: machine.spec.environmentId,
      code,
      message,
    })),
    done: machines === 0,
  };
}
