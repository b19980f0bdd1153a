/**
 * The attributes of `drover_group`: machines of one template that adapt and scale together. The number of machines is a
 * baseline as sizes are; which machines there are now stands in `effective`.
 */
import { attributes, type PlannedOf, type StateOf } from "#schema/attribute";
import { needs } from "#schema/rules";
import { timeoutsAttribute } from "#schema/timeouts";
import { objectName, oneOf, size, wholeNumber } from "#schema/validators";
import { machineCount, modeAttribute, range, rateMbps } from "./adaptation-attributes.ts";
import { machineAttributes } from "./machine-attributes.ts";
import { waysAttribute } from "./plan-check.ts";

const { image_id, ...ofMachine } = machineAttributes;

/** What a machine may say that a group's machines have in common. */
export const templateAttributes = attributes({
  image_id: {
    type: image_id.type,
    required: true,
    description: "Id of the image that each disk starts from. Another one replaces the group.",
  },
  class: ofMachine.class,
  vcpus: ofMachine.vcpus,
  cpu_percent: ofMachine.cpu_percent,
  cpu_weight: ofMachine.cpu_weight,
  memory_mib: ofMachine.memory_mib,
  site: {
    type: "string",
    optional: true,
    computed: true,
    description:
      "Baseline site of its machines. Default: the first of the environment. An edit is a live move.",
  },
  networks: {
    type: {
      nesting: "list",
      attributes: {
        network_id: { type: "string", required: true, description: "Id of the network." },
      },
    },
    required: true,
    description:
      "Networks that each is attached to; the shepherd gives the addresses. An edit takes effect live: cards are plugged in and unplugged.",
    validators: [size({ min: 0, max: 8 }, "at most 8 networks")],
  },
  adaptation: ofMachine.adaptation,
  ceiling: ofMachine.ceiling,
  user_data: ofMachine.user_data,
  user_data_wo: ofMachine.user_data_wo,
  user_data_wo_version: ofMachine.user_data_wo_version,
  stop_timeout_s: ofMachine.stop_timeout_s,
  deletion_protection: ofMachine.deletion_protection,
  allow_restart: ofMachine.allow_restart,
  raw_xml_patch: ofMachine.raw_xml_patch,
});

export const groupAttributes = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the group." },
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
    description: "Name, unique in its environment; its machines are called `<name>-0` and up.",
    validators: [objectName],
  },
  template: {
    type: { nesting: "single", attributes: templateAttributes },
    required: true,
    replaces: ({ prior, planned }) => replacesMachines(prior, planned),
    description: "What each of its machines is.",
  },
  machine_count: {
    type: "number",
    required: true,
    description: "Baseline of the number of machines. An edit adds or removes machines.",
    validators: [machineCount],
  },
  adaptation: {
    type: {
      nesting: "single",
      attributes: {
        mode: modeAttribute("its environment's, else `auto`"),
        machine_count: range("the number of machines", machineCount, "the number does not adapt"),
      },
    },
    optional: true,
    description:
      "How far guests may scale it. Machines that the stack declares are a floor: only the stack removes them.",
  },
  topology: {
    type: "string",
    optional: true,
    computed: true,
    default: "none",
    description:
      "Links among its machines, kept when it scales: `none`, `ring`, `mesh` or `star`. Default `none`.",
    validators: [oneOf(["none", "ring", "mesh", "star"])],
  },
  topology_rate_mbps: {
    type: "number",
    optional: true,
    description: "Rate of each of those links, in Mbit/s.",
    validators: [rateMbps],
  },
  coupling: {
    type: "string",
    optional: true,
    computed: true,
    default: "independent",
    description:
      "How its machines work together: `independent`, `bulk_synchronous` (the slowest sets the pace) or `pipeline`. Default `independent`.",
    validators: [oneOf(["independent", "bulk_synchronous", "pipeline"])],
  },
  speaker: {
    type: "number",
    optional: true,
    computed: true,
    default: 0,
    description: "Index of the machine whose guest may ask for all; -1: none. Default 0.",
    validators: [wholeNumber({ min: -1, max: 999 })],
  },
  effective: {
    type: {
      nesting: "single",
      attributes: {
        machine_count: { type: "number", computed: true, description: "Number of machines now." },
        machines: {
          type: {
            nesting: "list",
            attributes: {
              id: { type: "string", computed: true, description: "Id of the machine." },
              name: { type: "string", computed: true, description: "Its name." },
              origin: {
                type: "string",
                computed: true,
                description: "`stack`, or `adaptation` where a guest's request added it.",
              },
            },
          },
          computed: true,
          description: "The machines, in the order of their indexes.",
        },
        adaptation_id: {
          type: "string",
          computed: true,
          description: "The adaptation of the number of machines in force, if any.",
        },
        lease_until: {
          type: "string",
          computed: true,
          description: "When the adaptation is released, in RFC 3339. Null: not by time.",
        },
        reason: {
          type: "string",
          computed: true,
          description: "Reason given for the adaptation. Untrusted text of the asker.",
        },
      },
    },
    computed: true,
    description: "What is in force now. Keep it out of outputs: it changes without an edit.",
  },
  ways: waysAttribute,
  timeouts: timeoutsAttribute({ create: "60m", update: "60m", delete: "60m" }),
});
export type GroupAttributes = typeof groupAttributes;
export type GroupState = StateOf<GroupAttributes>;
export type GroupPlan = PlannedOf<GroupAttributes>;
export type TemplateState = StateOf<typeof templateAttributes>;

export const groupRules = [
  needs("topology_rate_mbps", "topology", "it is the rate of the links of a topology"),
];

/** An image cannot be changed under a machine that runs. */
function replacesMachines(prior: unknown, planned: unknown): boolean {
  const imageOf = (template: unknown) => JSON.stringify((template as TemplateState).image_id);
  return imageOf(prior) !== imageOf(planned);
}
