/** `drover_network`: a private layer-2 LAN of one environment, across its sites. Another environment may use the same addresses. */
import { path } from "@drover/shepherd/api/client";
import type { NetworkBody, NetworkPatch, NetworkView } from "@drover/shepherd/api/contract";
import { attributes, type StateOf } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { ipv4Cidr, objectName, wholeNumber } from "#schema/validators";
import { equal, isUnknown, type Value } from "#schema/value";
import { declaredObject, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { known } from "./machine-body.ts";

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the network." },
  environment_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the environment that it belongs to.",
  },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique in its environment.",
    validators: [objectName],
  },
  cidr: {
    type: "string",
    required: true,
    replaces: true,
    description: "IPv4 network, private to the environment: `10.42.0.0/24`.",
    validators: [ipv4Cidr],
  },
  vni: { type: "number", computed: true, description: "VXLAN network identifier." },
  mtu: {
    type: "number",
    optional: true,
    computed: true,
    description:
      "Largest packet that fits, in bytes. Default: what the lines between its sites leave; proven before it is admitted. A larger one holds at once, for machines from their next start; a smaller one needs that none runs in it.",
    validators: [wholeNumber({ min: 576, max: 9000 })],
  },
  gateway: {
    type: {
      nesting: "single",
      attributes: {
        site: { type: "string", required: true, description: "Site where the gateway stays." },
        nat: {
          type: "bool",
          optional: true,
          computed: true,
          default: false,
          description: "Whether it also leads out of the host. Default false.",
        },
      },
    },
    optional: true,
    description:
      "A way out of the LAN, at its first address. It stays at its site whatever moves, so connections survive; an edit is made in place and ends what goes through it. Absent: none.",
  },
});
type Gateway = NonNullable<StateOf<typeof declared>["gateway"]>;

export const network = defineResource({
  name: "drover_network",
  version: 0,
  description: "A private layer-2 network of one environment, spanning its sites.",
  importId: "environment/name or id",
  attributes: declared,
  identity: identityById("network"),
  ...declaredObject<typeof declared, NetworkView>({
    noun: "network",
    typeName: "drover_network",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/networks/${String(planned.name)}`,
      body: {
        cidr: planned.cidr as string,
        mtu: known(planned.mtu),
        gateway: gatewayBody(known(planned.gateway) as Gateway | null),
      } satisfies NetworkBody,
    }),
    one: (id) => path`/v1/networks/${id}`,
    lookUp: (client, planned) =>
      findOne<NetworkView>(client, "/v1/networks", {
        environment: String(planned.environment_id),
        name: String(planned.name),
      }),
    patch: ({ prior, planned }) => {
      const body: NetworkPatch = {};
      if (!isUnknown(planned.mtu) && planned.mtu !== prior.mtu) body.mtu = planned.mtu as number;
      if (!equal(planned.gateway as Value, prior.gateway as Value))
        body.gateway = gatewayBody(known(planned.gateway) as Gateway | null);
      return Object.keys(body).length === 0 ? undefined : body;
    },
    state: (view) => ({
      state: {
        id: view.id,
        environment_id: view.environment_id,
        name: view.name,
        cidr: view.cidr,
        vni: view.vni,
        mtu: view.mtu,
        gateway:
          view.gateway == null ? null : { site: view.gateway.site, nat: view.gateway.nat ?? false },
      },
    }),
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => {
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/networks/${id}`)
        : findOne<NetworkView>(client, "/v1/networks", key);
    },
    importIdOf: (planned) => `${String(planned.environment_id)}/${String(planned.name)}`,
  }),
});

function gatewayBody(gateway: Gateway | null): (NetworkBody["gateway"] & object) | null {
  return gateway === null ? null : { site: gateway.site, nat: gateway.nat === true };
}
