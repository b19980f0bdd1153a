/** Action `drover_resize`: gives a machine, or a whole group, another size for a while. The baselines stay. */
import { defineAction } from "#schema/action";
import { attributes, type StateOf } from "#schema/attribute";
import { atLeastOneOf, exactlyOneOf } from "#schema/rules";
import { isUnknown } from "#schema/value";
import { cpuPercent, memoryMib, vcpus } from "../resources/adaptation-attributes.ts";
import {
  type Asked,
  environmentAttribute,
  foreseeRequest,
  makeRequest,
  termsAttributes,
  termsOf,
} from "./request.ts";

const declared = attributes({
  environment: environmentAttribute,
  machine: { type: "string", optional: true, description: "Name of the machine." },
  group: { type: "string", optional: true, description: "Name of the group, to resize all of it." },
  vcpus: {
    type: "number",
    optional: true,
    description: "Virtual CPUs. Absent: as they are.",
    validators: [vcpus],
  },
  cpu_percent: {
    type: "number",
    optional: true,
    description: "CPU cap in percent of one host core. Absent: as it is.",
    validators: [cpuPercent],
  },
  memory_mib: {
    type: "number",
    optional: true,
    description: "Memory in MiB. Absent: as it is.",
    validators: [memoryMib],
  },
  ...termsAttributes,
});

export const resize = defineAction({
  name: "drover_resize",
  description: "Resizes a machine or a group live, within its bounds and policy.",
  attributes: declared,
  rules: [exactlyOneOf("machine", "group"), atLeastOneOf("vcpus", "cpu_percent", "memory_mib")],
  plan: async (work, config) => {
    if (!Object.values(config).some(isUnknown))
      await foreseeRequest(work, askedOf(config as StateOf<typeof declared>));
  },
  invoke: (work, config, progress) => makeRequest(work, askedOf(config), progress),
});

function askedOf(config: StateOf<typeof declared>): Asked {
  const { environment, machine, group } = config;
  const sizes = Object.fromEntries(
    (["vcpus", "cpu_percent", "memory_mib"] as const).flatMap((name) =>
      config[name] === null ? [] : [[name, config[name]]],
    ),
  );
  return {
    what: `resize ${machine ?? `group ${group}`} of ${environment}`,
    attributes: Object.keys(declared),
    body: {
      method: "resize",
      environment,
      ...(machine === null ? {} : { machine }),
      ...(group === null ? {} : { group }),
      params: { ...sizes, ...termsOf(config) },
    },
  };
}
