/**
 * Ways into a LAN for people and their tools: bytes to and from a TCP port of a machine. The request's body goes to the
 * machine and the answer's body comes from it, both for as long as they like. `drover ssh` and `drover forward` use it.
 */
import type { Readable } from "node:stream";
import { Type } from "typebox";
import { checkOwner } from "#api/access";
import { environmentOf, find } from "#api/records";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { MachineRecord, NetworkRecord } from "#model/objects";
import { gatewayOf } from "#network/gateway";
import { deriveServices } from "#network/services";

export function doorRoutes(router: ApiRouter, world: ApiWorld): void {
  const { lanDoor, store, clock } = world;
  if (lanDoor === undefined) return;
  router.post(
    "/v1/machines/:id/connect",
    {
      config: { access: "declare", keys: "none" },
      schema: {
        params: Type.Object({ id: Type.String() }),
        querystring: Type.Object({ port: Type.String({ pattern: "^[1-9][0-9]{0,4}$" }) }),
      },
      // Bytes of a connection, not a document.
      bodyLimit: Number.MAX_SAFE_INTEGER,
    },
    async (request, reply) => {
      const port = Number(request.query.port);
      const place = await store.transaction(async (journal) => {
        const machine = await find(journal, "machine", request.params.id);
        const environment = await environmentOf(journal, machine.spec.environmentId);
        checkOwner(request.principal, environment.spec.owner);
        const networks = await journal.objects.list("network", { environmentId: environment.id });
        const found = doorOf(machine, networks);
        await journal.events.append({
          kind: "machine.entered",
          atMs: clock.nowMs(),
          environmentId: environment.id,
          machineId: machine.id,
          data: { by: request.principal.name, port, host: found.hostId },
        });
        return found;
      });
      const stream = await lanDoor.open({ ...place, port });
      const incoming = request.body as Readable | undefined;
      incoming?.on("error", () => stream.destroy());
      incoming?.pipe(stream);
      reply.raw.on("close", () => stream.destroy());
      return reply.type("application/octet-stream").send(stream);
    },
  );
}

/** From the gateway where there is one, which stays when the machine moves; else from the services beside the machine. */
function doorOf(
  machine: MachineRecord,
  networks: readonly NetworkRecord[],
): { readonly hostId: string; readonly namespace: string; readonly address: string } {
  for (const nic of machine.effective.nics) {
    const network = networks.find(({ id }) => id === nic.networkId);
    if (network === undefined) continue;
    const { address } = nic;
    const gateway = gatewayOf(network);
    const { gatewayHostId } = network.effective;
    if (gateway !== undefined && gatewayHostId !== undefined)
      return { hostId: gatewayHostId, namespace: gateway.namespace, address };
    const services = deriveServices(network, [{ machine, nic }]);
    if (services !== undefined && machine.effective.hostId !== "")
      return { hostId: machine.effective.hostId, namespace: services.namespace, address };
  }
  throw new Fault("network.no_door", { machine: machine.spec.name });
}
