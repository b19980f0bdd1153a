/**
 * Guests over HTTP: whoever shows a guest's pass asks in that machine's name, for the methods that the pass names. What is
 * asked goes the same way as through the machine's channel: limits, policy, journal.
 */
import { Type } from "typebox";
import { checkOwner } from "#api/access";
import type { GuestPass } from "#api/contract-passes";
import { environmentOf, find } from "#api/records";
import { passHeader, passView } from "#api/routes/consoles";
import { Params } from "#api/routes/environments";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { guestMethods } from "#intake/methods";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

const defaultMs: Ms = 600_000;
const longestMs: Ms = 86_400_000;

const GuestPassBody = Type.Object(
  {
    methods: Type.Optional(Type.Array(Type.Enum([...guestMethods]), { minItems: 1 })),
    lasts_ms: Type.Optional(Type.Integer({ minimum: 1_000, maximum: longestMs })),
  },
  { additionalProperties: false },
);
const GuestRequest = Type.Object(
  {
    jsonrpc: Type.Literal("2.0"),
    id: Type.String({ pattern: "^[A-Za-z0-9._:-]{1,64}$" }),
    method: Type.String({ minLength: 1, maxLength: 64 }),
    params: Type.Optional(Type.Unknown()),
  },
  { additionalProperties: false },
);

export function guestDoorRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, passes, guestDoor } = world;

  router.post(
    "/v1/machines/:id/guest-passes",
    {
      config: { access: "declare", keys: "secret" },
      schema: { params: Params, body: GuestPassBody },
    },
    async (request): Promise<GuestPass> => {
      const { principal, body } = request;
      const methods = body.methods ?? [...guestMethods];
      return await store.transaction(async (journal) => {
        const machine = await find(journal, "machine", request.params.id);
        const environment = await environmentOf(journal, machine.spec.environmentId);
        checkOwner(principal, environment.spec.owner);
        const { pass, secret } = passes.issue({
          kind: "guest",
          machineId: machine.id,
          by: principal.name,
          methods,
          lastsMs: body.lasts_ms ?? defaultMs,
        });
        await journal.events.append({
          kind: "machine.pass",
          atMs: clock.nowMs(),
          environmentId: environment.id,
          machineId: machine.id,
          data: { by: principal.name, pass: pass.id, to: "guest", methods },
        });
        return { ...passView(pass), pass: secret, methods };
      });
    },
  );

  router.post(
    "/v1/guest",
    { config: { access: "open", keys: "none" }, schema: { body: GuestRequest } },
    async (request): Promise<object> => {
      const shown = request.headers[passHeader];
      if (typeof shown !== "string") throw new Fault("pass.unknown");
      const { machineId, methods } = passes.show("guest", shown);
      const { method } = request.body;
      if (!methods.includes(method)) {
        throw new Fault("pass.method", { method, methods: methods.join(", ") });
      }
      const machine = await store.read((journal) => find(journal, "machine", machineId));
      const { jsonrpc, id, params } = request.body;
      return await guestDoor.ask(machine, {
        jsonrpc,
        id,
        method,
        ...(params === undefined ? {} : { params }),
      });
    },
  );
}
