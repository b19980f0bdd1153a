/**
 * Networks of an environment. A host carries one only while a machine of it is there, so declaring and deleting change
 * the journal alone; operations on machines bring it to hosts and take it away.
 */
import { Type } from "typebox";
import { checkOwner } from "#api/access";
import type { Mutation, NetworkView } from "#api/contract";
import {
  claimedConflict,
  environmentOf,
  findAndClaim,
  importId,
  journalChange,
  look,
} from "#api/records";
import { byId, ownEnvironment, status } from "#api/routes/environments";
import { Name, NetworkBody } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { networkView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { NetworkRecord } from "#model/objects";
import { parseCidr } from "#network/addresses";
import { lowestFreeVni } from "#network/names";

/** VXLAN over an underlay of 1500 leaves 1450 to the guests. */
const overlayMtu = 1450;

export function networkRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, ids } = world;

  router.put(
    "/v1/environments/:environment/networks/:name",
    {
      config: { access: "declare" },
      schema: {
        params: Type.Object({ environment: Type.String(), name: Name }),
        body: NetworkBody,
      },
    },
    async (request, reply): Promise<Mutation<NetworkView>> => {
      const { name } = request.params;
      const cidr = parseCidr(request.body.cidr).text;
      const { record, created } = await store.transaction(async (journal) => {
        const environment = await ownEnvironment(
          journal,
          request.params.environment,
          request.principal,
        );
        const key = `${environment.id}/${name}`;
        const existing = await journal.objects.findByKey("network", key);
        if (existing !== undefined) {
          if (existing.claimed) throw claimedConflict(existing, importId(environment, name));
          if (existing.spec.cidr !== cidr) {
            throw new Fault("object.immutable", {
              kind: "network",
              key: importId(environment, name),
              attribute: "cidr",
              from: existing.spec.cidr,
              to: cidr,
            });
          }
          return { record: existing, created: false };
        }
        const taken = (await journal.objects.list("network")).map((one) => one.effective.vni);
        const fresh: NetworkRecord = {
          kind: "network",
          id: ids.next(),
          key,
          environmentId: environment.id,
          spec: { environmentId: environment.id, name, cidr },
          effective: { vni: lowestFreeVni(new Set(taken)), mtu: overlayMtu },
          version: 1,
          claimed: false,
          createdAtMs: clock.nowMs(),
        };
        await journal.objects.put(fresh);
        await journalChange(journal, fresh, clock.nowMs());
        return { record: fresh, created: true };
      });
      status(reply, created);
      return { object: networkView(record), operation: null };
    },
  );

  router.get(
    "/v1/networks",
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
          "network",
          environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id },
        ),
      );
      return {
        items: records
          .filter((one) => name === undefined || one.spec.name === name)
          .map(networkView),
      };
    },
  );

  router.get("/v1/networks/:id", byId("read"), async (request) =>
    networkView(
      await store.transaction((journal) =>
        look(journal, "network", request.params.id, request.principal),
      ),
    ),
  );

  router.delete(
    "/v1/networks/:id",
    byId("declare"),
    async (request): Promise<Mutation<NetworkView>> => {
      await store.transaction(async (journal) => {
        const found = await findAndClaim(journal, "network", request.params.id);
        const environment = await environmentOf(journal, found.spec.environmentId);
        checkOwner(request.principal, environment.spec.owner);
        const machines = await journal.objects.list("machine", { environmentId: environment.id });
        const users = machines.filter((machine) =>
          machine.effective.nics.some((nic) => nic.networkId === found.id),
        );
        if (users.length > 0) {
          throw new Fault("object.in_use", {
            kind: "network",
            key: importId(environment, found.spec.name),
            users: users.map((machine) => machine.spec.name).join(", "),
          });
        }
        for (const { address } of await journal.addresses.list(found.id)) {
          await journal.addresses.remove(found.id, address);
        }
        await journal.objects.remove("network", found.id);
        await journalChange(journal, found, clock.nowMs(), "object.deleted");
      });
      return { object: null, operation: null };
    },
  );
}
