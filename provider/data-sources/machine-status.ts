/**
 * Data source `drover_machine_status`: what is live of one machine beside its baselines. The place for live values that
 * a stack wants to look at: a resource argument or an output that uses them makes plan non-empty when they change.
 */
import { path } from "@drover/shepherd/api/client";
import type { MachineView } from "@drover/shepherd/api/contract";
import { attributes, type StateOf } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { findOne } from "../resources/lookup.ts";
import { machineAttributes } from "../resources/machine-attributes.ts";
import { reportError } from "../resources/problems.ts";
import { leaseTime } from "../resources/time.ts";

const vcpusAndMemory = attributes({
  vcpus: { type: "number", computed: true, description: "Virtual CPUs." },
  memory_mib: { type: "number", computed: true, description: "Memory, in MiB." },
});

const declared = attributes({
  id: {
    type: "string",
    optional: true,
    computed: true,
    description: "Id of the machine; or give environment and name.",
  },
  environment: {
    type: "string",
    optional: true,
    computed: true,
    description: "Name of its environment.",
  },
  name: { type: "string", optional: true, computed: true, description: "Its name." },
  baseline: {
    type: {
      nesting: "single",
      attributes: {
        vcpus: { type: "number", computed: true, description: "Virtual CPUs." },
        cpu_percent: {
          type: "number",
          computed: true,
          description: "CPU cap, percent of one core.",
        },
        memory_mib: { type: "number", computed: true, description: "Memory, in MiB." },
        site: { type: "string", computed: true, description: "Site." },
      },
    },
    computed: true,
    description: "What its stack asks for.",
  },
  effective: machineAttributes.effective,
  cpu_weight: { type: "number", computed: true, description: "CPU weight in force." },
  ceiling: {
    type: {
      nesting: "single",
      attributes: vcpusAndMemory,
    },
    computed: true,
    description: "What it can reach without a restart.",
  },
  guest_seen: {
    type: {
      nesting: "single",
      attributes: vcpusAndMemory,
    },
    computed: true,
    description:
      "What its guest has now: memory on its way, or a processor that it could not let go of. Null while an operation changes it, or when its host did not say.",
  },
  drift: {
    type: ["list", "string"],
    computed: true,
    description: "Attributes whose live value no adaptation explains.",
  },
  restart_needed: {
    type: ["list", "string"],
    computed: true,
    description: "Attributes that were declared, but come into force at its next start.",
  },
  origin: {
    type: "string",
    computed: true,
    description:
      "`stack`; `adaptation` where a guest's request added it to its group; `import` where another tool made it.",
  },
  managed_by: {
    type: "string",
    computed: true,
    description: "Who manages it: the principal that claimed it. Null: nobody yet.",
  },
});

export const machineStatus = defineDataSource({
  name: "drover_machine_status",
  description: "What is live of one machine, beside what its stack asks for.",
  attributes: declared,
  validate: (config, report) => {
    if (config.id === null && (config.environment === null || config.name === null))
      report.error("Which machine?", "Give id, or environment and name.");
    else if (typeof config.id === "string" && (config.environment !== null || config.name !== null))
      report.at("id").error("Named twice", "Give id, or environment and name, not both.");
  },
  read: async (work, config) => {
    const { id, environment, name } = config;
    const named = id ?? `${environment}/${name}`;
    try {
      const view =
        id === null
          ? await findOne<MachineView>(work.client, "/v1/machines", {
              environment: environment ?? "",
              name: name ?? "",
            })
          : await work.client.find<MachineView>(path`/v1/machines/${id}`, { signal: work.signal });
      if (view !== undefined) return stateOf(view);
      work.report.error("No such machine", `The shepherd knows no machine "${named}".`);
    } catch (error) {
      reportError(work, error, { what: `read machine "${named}"`, attributes: ["id", "name"] });
    }
    return null;
  },
});

function stateOf(view: MachineView): StateOf<typeof declared> {
  const { effective, ceiling, vcpus, cpu_percent, memory_mib, site } = view;
  const { lease_until_ms, cpu_weight, ...live } = effective;
  return {
    id: view.id,
    environment: view.environment,
    name: view.name,
    baseline: { vcpus, cpu_percent, memory_mib, site },
    effective: { ...live, lease_until: leaseTime(lease_until_ms) },
    cpu_weight,
    ceiling: { vcpus: ceiling.vcpus, memory_mib: ceiling.memory_mib },
    guest_seen: view.guest_seen,
    drift: view.drift.map(({ attribute }) => attribute),
    restart_needed: view.restart_needed,
    origin: view.origin,
    managed_by: view.managed_by,
  };
}
