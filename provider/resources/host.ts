/**
 * `drover_host`: a host that its site's owner lends, taken in while the shepherd runs. The shepherd connects and asks it
 * before it is registered; its key is a name that the shepherd knows, so that no key ever stands in a state.
 */
import { path } from "@drover/shepherd/api/client";
import type {
  HostBody,
  HostPatch,
  HostRegistrationView,
} from "@drover/shepherd/api/contract-hosts";
import { attributes, type PlannedOf } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { timeoutsAttribute } from "#schema/timeouts";
import { ipAddress, objectName, oneOf, wholeNumber } from "#schema/validators";
import { equal, isUnknown, type Value } from "#schema/value";
import { declaredObject } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { known } from "./machine-body.ts";
import { onlyStack } from "./plan-check.ts";
import { removeWhenFree } from "./removal.ts";

const sshAttributes = attributes({
  address: { type: "string", required: true, description: "Name or address of its sshd." },
  port: {
    type: "number",
    optional: true,
    computed: true,
    default: 22,
    description: "Port of its sshd. Default 22.",
    validators: [wholeNumber({ min: 1, max: 65_535 })],
  },
  user: {
    type: "string",
    optional: true,
    computed: true,
    default: "root",
    description: "Who logs in. Default root.",
  },
  key: {
    type: "string",
    required: true,
    description:
      "Name of a key file in the site's `key_dir` at the shepherd. The key itself stays there.",
  },
  host_key: {
    type: "string",
    required: true,
    description: "The host's public key, as `ssh-keyscan` prints it: `ssh-ed25519 AAAA…`.",
  },
});

const lendAttributes = attributes({
  cpu_percent: {
    type: "number",
    required: true,
    description: "CPU in percent of one core.",
    validators: [wholeNumber({ min: 1, max: 1_000_000 })],
  },
  memory_mib: {
    type: "number",
    required: true,
    description: "Memory in MiB.",
    validators: [wholeNumber({ min: 1, max: 1_000_000_000 })],
  },
  disk_gib: {
    type: "number",
    required: true,
    description: "Disk in GiB.",
    validators: [wholeNumber({ min: 1, max: 1_000_000_000 })],
  },
});

const declared = attributes({
  id: {
    type: "string",
    computed: true,
    neverNull: true,
    description: "Its name: what machines and plans call it.",
  },
  site: {
    type: "string",
    required: true,
    replaces: true,
    description: "Site that it belongs to; whoever applies owns the site or runs the shepherd.",
  },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique at the shepherd.",
    validators: [objectName],
  },
  lend: {
    type: { nesting: "single", attributes: lendAttributes },
    required: true,
    description: "What its owner lends; never more is used. Changes hold at once.",
  },
  migration_address: {
    type: "string",
    required: true,
    replaces: true,
    description: "IP address that other hosts reach, for moves and LANs.",
    validators: [ipAddress],
  },
  uplink_mbps: {
    type: "number",
    optional: true,
    description: "What it can carry to other hosts in Mbit/s. Absent: nobody counts.",
    validators: [wholeNumber({ min: 1, max: 1_000_000 })],
  },
  ssh: {
    type: { nesting: "single", attributes: sshAttributes },
    optional: true,
    replaces: true,
    description: "How the shepherd reaches it. Only a simulated host has none.",
  },
  pool: {
    type: "string",
    optional: true,
    computed: true,
    default: "drover",
    replaces: true,
    description: "libvirt storage pool of type dir for its volumes. Default `drover`.",
  },
  libvirt_socket: {
    type: "string",
    optional: true,
    replaces: true,
    description: "Unix socket of its libvirtd. Absent: where distributions put it.",
  },
  acceleration: {
    type: "string",
    optional: true,
    computed: true,
    default: "tcg",
    replaces: true,
    description: "`kvm` or `tcg`: what its machines are run by. Default `tcg`.",
    validators: [oneOf(["kvm", "tcg"])],
  },
  timeouts: timeoutsAttribute({ delete: "2m" }),
});
type Declared = typeof declared;

export const host = defineResource({
  name: "drover_host",
  version: 0,
  description: "A host of a site, taken in while the shepherd runs.",
  importId: "name",
  attributes: declared,
  identity: identityById("host"),
  // It is called by its name everywhere, so others may refer to it before it is there.
  plan: ({ planned }) => (isUnknown(planned.name) ? {} : { id: planned.name }),
  ...declaredObject<Declared, HostRegistrationView>({
    noun: "host",
    typeName: "drover_host",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/sites/${String(planned.site)}/hosts/${String(planned.name)}`,
      body: {
        pool: known(planned.pool),
        migration_address: String(planned.migration_address),
        lend: lendOf(planned),
        uplink_mbps: known(planned.uplink_mbps),
        ssh: known(planned.ssh) as HostBody["ssh"] & object, // apply knows all of it
        libvirt_socket: known(planned.libvirt_socket),
        acceleration: planned.acceleration === "kvm" ? "kvm" : "tcg",
      } satisfies HostBody,
    }),
    one: (id) => path`/v1/host-registrations/${id}`,
    lookUp: (client, planned) =>
      findOne<HostRegistrationView>(client, "/v1/host-registrations", {
        name: String(planned.name),
      }),
    patch: ({ prior, planned }) => {
      const body: HostPatch = {};
      if (!equal(planned.lend as Value, prior.lend as Value)) body.lend = lendOf(planned);
      if (planned.uplink_mbps !== prior.uplink_mbps) body.uplink_mbps = known(planned.uplink_mbps);
      return Object.keys(body).length === 0 ? undefined : body;
    },
    state: (view, prior) => ({
      state: {
        id: view.id,
        site: view.site,
        name: view.id,
        lend: view.lend,
        migration_address: view.migration_address,
        uplink_mbps: view.uplink_mbps,
        ssh: view.ssh,
        pool: view.pool,
        libvirt_socket: view.libvirt_socket,
        acceleration: view.acceleration,
        timeouts: onlyStack(prior?.timeouts),
      },
    }),
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => client.find(path`/v1/host-registrations/${id}`),
    importIdOf: (planned) => String(planned.name),
  }),
  remove: (work, { id }) =>
    removeWhenFree(work, path`/v1/host-registrations/${id ?? ""}`, {
      what: `delete host "${id}"`,
      attributes: [],
    }),
});

function lendOf({ lend }: PlannedOf<Declared>): HostBody["lend"] {
  return lend as HostBody["lend"]; // required, and known at apply
}
