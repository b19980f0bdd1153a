/**
 * `drover_host`: registers a host and what its owner lends of it. The host needs libvirtd and sshd; nothing of ours is
 * installed. Taking it away needs it empty: `drover drain` or the action `drover_drain` moves its machines.
 */
import { path } from "@drover/shepherd/api/client";
import type { HostBody, HostView } from "@drover/shepherd/api/contract";
import { attributes, type PlannedOf, type StateOf } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { objectName, wholeNumber } from "#schema/validators";
import { known } from "./machine-body.ts";
import { onlyStack } from "./plan-check.ts";
import { registeredObject } from "./registered-object.ts";

const declared = attributes({
  id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name of the host, unique at the shepherd.",
    validators: [objectName],
  },
  site: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name of the site that it belongs to.",
  },
  ssh: {
    type: {
      nesting: "single",
      attributes: {
        address: {
          type: "string",
          required: true,
          description: "Name or address, with `:port` if not 22.",
        },
        user: { type: "string", optional: true, description: "Absent: `root`." },
        key_file: {
          type: "string",
          required: true,
          description: "File of the private key, at the shepherd.",
        },
        host_key: {
          type: "string",
          required: true,
          description: "The host's public key: no other is accepted.",
        },
        jump: { type: "string", optional: true, description: "Host to go through." },
      },
    },
    required: true,
    description: "How the shepherd reaches it.",
  },
  pool: {
    type: "string",
    required: true,
    description: "libvirt storage pool that disks are placed in.",
  },
  migration_address: {
    type: "string",
    required: true,
    description: "Where other hosts reach it for moves.",
  },
  lend: {
    type: {
      nesting: "single",
      attributes: {
        cpu_percent: {
          type: "number",
          required: true,
          description: "CPU, in percent of one core.",
          validators: [wholeNumber({ min: 0, max: 102_400 })],
        },
        memory_mib: {
          type: "number",
          required: true,
          description: "Memory, in MiB.",
          validators: [wholeNumber({ min: 0, max: 16_777_216 })],
        },
        disk_gib: {
          type: "number",
          required: true,
          description: "Disk space, in GiB.",
          validators: [wholeNumber({ min: 0, max: 1_048_576 })],
        },
      },
    },
    required: true,
    description: "What its owner lends of it. A smaller word stops new machines, it evicts none.",
  },
});
type State = StateOf<typeof declared>;

export const host = defineResource({
  name: "drover_host",
  version: 0,
  description: "A host of a site, registered at the shepherd with what its owner lends.",
  importId: "its name",
  attributes: declared,
  identity: identityById("host"),
  ...registeredObject<typeof declared, HostView>({
    noun: "host",
    attributes: Object.keys(declared),
    one: ({ id, site }) => ({
      write: path`/v1/sites/${String(site)}/hosts/${String(id)}`,
      read: path`/v1/hosts/${String(id)}`,
    }),
    body: bodyOf,
    state: (view, prior) => ({
      id: view.id,
      site: view.site,
      // The shepherd keeps to itself how it gets in; after an import the stack says it.
      ssh: onlyStack<State["ssh"]>(prior?.ssh) ?? noWayIn,
      pool: onlyStack<string>(prior?.pool) ?? "",
      migration_address: onlyStack<string>(prior?.migration_address) ?? "",
      lend: view.lend,
    }),
    nameOf: ({ id }) => String(id),
    find: (work, id) => work.client.find<HostView>(path`/v1/hosts/${id}`, { signal: work.signal }),
  }),
});

const noWayIn: State["ssh"] = { address: "", user: null, key_file: "", host_key: "", jump: null };

function bodyOf(planned: PlannedOf<typeof declared>): HostBody {
  const ssh = planned.ssh as State["ssh"];
  return {
    ssh: { ...ssh, user: known(ssh.user), jump: known(ssh.jump) },
    pool: String(planned.pool),
    migration_address: String(planned.migration_address),
    lend: planned.lend as State["lend"],
  };
}
