/**
 * Networks of an environment. A host carries one only while a machine of it is there, so declaring and deleting change
 * the journal alone; operations on machines bring it to hosts and take it away, and a repair brings it what was changed.
 */
import { Type } from "typebox";
import { checkOwner } from "#api/access";
import type { Mutation, NetworkView, TunnelRotation } from "#api/contract";
import {
  changeNetwork,
  gatewayHost,
  gatewayOf,
  patchedNetwork,
  provenMtu,
  repairAfter,
} from "#api/network-changes";
import {
  claimedConflict,
  environmentOf,
  findAndClaim,
  importId,
  journalChange,
  listNamed,
  look,
} from "#api/records";
import { byId, ownEnvironment, status } from "#api/routes/environments";
import { Name, NetworkBody, NetworkPatch } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { networkView, operationView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import {
  type EnvironmentRecord,
  type NetworkGateway,
  type NetworkRecord,
  nameOfLink,
} from "#model/objects";
import { parseCidr, serviceAddress } from "#network/addresses";
import { lowestFreeVni } from "#network/names";
import type { Journal } from "#ports/store";

export function networkRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, clock, ids, turns } = world;

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
      const { body, principal } = request;
      const cidr = parseCidr(body.cidr).text;
      const asked = await store.transaction((journal) =>
        ownEnvironment(journal, request.params.environment, principal),
      );
      const gateway = gatewayOf(asked, body.gateway);
      // Measured before it is admitted, outside of the transaction: hosts may take their time.
      const mtu = await provenMtu(world, asked, { name, mtu: body.mtu ?? undefined });
      const { record, created } = await store.transaction(async (journal) => {
        const environment = await ownEnvironment(journal, request.params.environment, principal);
        const key = `${environment.id}/${name}`;
        const existing = await journal.objects.findByKey("network", key);
        if (existing !== undefined) {
          if (existing.claimed) throw claimedConflict(existing, importId(environment, name));
          refuseOther(existing, { cidr, mtu: body.mtu ?? undefined, gateway }, environment);
          return { record: existing, created: false };
        }
        const networks = await journal.objects.list("network");
        const taken = networks.map((one) => one.effective.vni);
        refuseOverlap(
          networks.filter((one) => one.spec.environmentId === environment.id),
          cidr,
        );
        const fresh: NetworkRecord = {
          kind: "network",
          id: ids.next(),
          key,
          environmentId: environment.id,
          spec: {
            environmentId: environment.id,
            name,
            cidr,
            mtu: body.mtu ?? undefined,
            gateway,
          },
          effective: {
            vni: lowestFreeVni(new Set(taken)),
            mtu,
            serviceAddress: serviceAddress(parseCidr(cidr)),
            domain: `${environment.spec.name}.internal`,
            gatewayHostId: gateway === undefined ? undefined : gatewayHost(world, gateway.siteId),
          },
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
      const records = await store.read((journal) => listNamed(journal, "network", request.query));
      return { items: records.map(networkView) };
    },
  );

  router.get("/v1/networks/:id", byId("read"), async (request) =>
    networkView(
      await store.transaction((journal) =>
        look(journal, "network", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/networks/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: NetworkPatch } },
    async (request, reply): Promise<Mutation<NetworkView>> => {
      const { params, principal, body: patch } = request;
      const own = async (journal: Journal) => {
        const network = await findAndClaim(journal, "network", params.id);
        const environment = await environmentOf(journal, network.spec.environmentId);
        checkOwner(principal, environment.spec.owner);
        return { network, environment };
      };
      const change = await turns.inTurn(`network ${params.id}`, async () => {
        const found = await store.transaction(own);
        const wanted = await patchedNetwork(world, { ...found, patch });
        if (wanted === undefined) return { network: found.network, hasChanged: false };
        return await store.transaction(async (journal) => {
          const { network: now, environment } = await own(journal);
          const network = await changeNetwork(
            journal,
            { network: now, environment, change: wanted },
            clock.nowMs(),
          );
          return { network, hasChanged: true };
        });
      });
      const { network, hasChanged } = change;
      // Without a machine that runs, no host carries it: there is nothing to bring there.
      const { operation } = hasChanged ? await gate.submit(repairAfter(world, network)) : {};
      if (operation !== undefined) reply.code(202);
      return {
        object: networkView(network),
        operation: operation === undefined ? null : operationView(operation),
      };
    },
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
        const links = await journal.objects.list("link", { environmentId: environment.id });
        const users = [
          ...machines
            .filter(({ effective }) => effective.nics.some((nic) => nic.networkId === found.id))
            .map(({ spec }) => spec.name),
          ...links
            .filter(({ spec }) => spec.network === found.spec.name)
            .map(({ spec }) => `link ${nameOfLink(spec)}`),
        ];
        if (users.length > 0) {
          throw new Fault("object.in_use", {
            kind: "network",
            key: importId(environment, found.spec.name),
            users: users.join(", "),
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

/** What a network was made with stays: its machines live by it. */
function refuseOther(
  existing: NetworkRecord,
  asked: {
    readonly cidr: string;
    readonly mtu: number | undefined;
    readonly gateway: NetworkGateway | undefined;
  },
  environment: EnvironmentRecord,
): void {
  const text = (gateway: NetworkGateway | undefined) =>
    gateway === undefined ? "none" : `${gateway.siteId}${gateway.nat ? " with NAT" : ""}`;
  const { spec } = existing;
  for (const [attribute, from, to] of [
    ["cidr", spec.cidr, asked.cidr],
    ["mtu", String(spec.mtu ?? "given"), String(asked.mtu ?? "given")],
    ["gateway", text(spec.gateway), text(asked.gateway)],
  ] as const) {
    if (from === to) continue;
    const key = importId(environment, spec.name);
    throw new Fault("object.immutable", { kind: "network", key, attribute, from, to });
  }
}

/** Networks of other environments may overlap; a machine on two that do could not tell them apart. */
function refuseOverlap(networks: readonly NetworkRecord[], cidr: string): void {
  const asked = parseCidr(cidr);
  for (const { spec } of networks) {
    const there = parseCidr(spec.cidr);
    if (asked.first + asked.size <= there.first || there.first + there.size <= asked.first)
      continue;
    throw new Fault("network.cidr_overlaps", { cidr, network: spec.name, other: spec.cidr });
  }
}

/** New keys for the mesh between sites; an operator's word, journaled with all that follows. */
export function tunnelRoutes(router: ApiRouter, world: ApiWorld): void {
  const { tunnels } = world;
  if (tunnels === undefined) return;
  router.post(
    "/v1/tunnels/rotate",
    { config: { access: "operate" }, schema: {} },
    async (): Promise<TunnelRotation> => {
      const { generation, hostIds } = await tunnels.rotate();
      return { generation, hosts: [...hostIds] };
    },
  );
}
