/**
 * The serial console of a machine, for people and their tools: bytes both ways over libvirt, wherever the machine is. It
 * is opened by a pass that holds once and for a minute, so that no token has to go to whatever speaks to the console.
 */
import type { Readable } from "node:stream";
import { checkOwner } from "#api/access";
import type { ConsolePass, PassView } from "#api/contract-passes";
import type { Pass } from "#api/passes";
import { environmentOf, find } from "#api/records";
import { byId } from "#api/routes/environments";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

/** From the ask to the first byte. */
const lastsMs: Ms = 60_000;
/** The header that shows a pass: an address would be written into logs. */
export const passHeader = "drover-pass";

export function consoleRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, passes, consoles } = world;

  router.post(
    "/v1/machines/:id/console-passes",
    { config: { access: "declare", keys: "secret" }, schema: byId("declare").schema },
    async (request): Promise<ConsolePass> => {
      const { principal } = request;
      return await store.transaction(async (journal) => {
        const machine = await find(journal, "machine", request.params.id);
        const environment = await environmentOf(journal, machine.spec.environmentId);
        checkOwner(principal, environment.spec.owner);
        const asked = { kind: "console", machineId: machine.id, methods: [], lastsMs } as const;
        const { pass, secret } = passes.issue({ ...asked, by: principal.name });
        await journal.events.append({
          kind: "machine.pass",
          atMs: clock.nowMs(),
          environmentId: environment.id,
          machineId: machine.id,
          data: { by: principal.name, pass: pass.id, to: "console" },
        });
        return { ...passView(pass), pass: secret };
      });
    },
  );

  router.post(
    "/v1/passes/:id/renew",
    byId("declare"),
    async (request): Promise<PassView> =>
      passView(passes.renew(request.params.id, request.principal.name)),
  );

  router.delete("/v1/passes/:id", byId("declare"), async (request) => {
    passes.end(request.params.id, request.principal.name);
    return { id: request.params.id };
  });

  router.post(
    "/v1/console",
    {
      config: { access: "open", keys: "none" },
      // Bytes of a connection, not a document.
      bodyLimit: Number.MAX_SAFE_INTEGER,
    },
    async (request, reply) => {
      const shown = request.headers[passHeader];
      if (typeof shown !== "string") throw new Fault("pass.unknown");
      const { machineId, by } = passes.show("console", shown);
      const hostId = await store.transaction(async (journal) => {
        const machine = await find(journal, "machine", machineId);
        await journal.events.append({
          kind: "machine.entered",
          atMs: clock.nowMs(),
          environmentId: machine.spec.environmentId,
          machineId,
          data: { by, console: true, host: machine.effective.hostId },
        });
        return machine.effective.hostId;
      });
      const stream = await consoles.open(hostId, machineId);
      const incoming = request.body as Readable | undefined;
      incoming?.on("error", () => stream.destroy());
      incoming?.pipe(stream);
      reply.raw.on("close", () => stream.destroy());
      return reply.type("application/octet-stream").send(stream);
    },
  );
}

export function passView({ id, machineId, expiresAtMs }: Pass): PassView {
  return { id, machine_id: machineId, expires_at_ms: expiresAtMs };
}
