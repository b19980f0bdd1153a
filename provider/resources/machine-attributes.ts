/**
 * The attributes of `drover_machine`. Baselines are what the stack asks for; live values stand in `effective`, so that
 * an approved adaptation never shows as a change (design D of docs/decisions/0006).
 */
import { attributes, type PlannedOf, type StateOf } from "#schema/attribute";
import { timeoutsAttribute } from "#schema/timeouts";
import { ipv4Address, matches, objectName, size, wholeNumber } from "#schema/validators";
import { adaptationAttribute, cpuPercent, memoryMib, vcpus } from "./adaptation-attributes.ts";
import { waysAttribute } from "./plan-check.ts";

export const machineAttributes = attributes({
  id: {
    type: "string",
    computed: true,
    neverNull: true,
    description: "Id of the machine, also its libvirt UUID. Never changes, wherever it runs.",
  },
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
  group: {
    type: "string",
    optional: true,
    description: "Group of machines of one template that adapt together.",
    validators: [objectName],
  },
  speaker: {
    type: "bool",
    optional: true,
    computed: true,
    default: false,
    description: "Whether its guest may ask for the whole group. Default false.",
  },
  class: {
    type: "string",
    optional: true,
    computed: true,
    description: "What it is, for policy. Default: the class of its environment.",
    validators: [objectName],
  },
  image_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the image that its disk starts from.",
  },
  vcpus: {
    type: "number",
    optional: true,
    computed: true,
    description: "Baseline of virtual CPUs. An edit takes effect live.",
    validators: [vcpus],
  },
  cpu_percent: {
    type: "number",
    optional: true,
    computed: true,
    description: "Baseline of the CPU cap, in percent of one host core. An edit takes effect live.",
    validators: [cpuPercent],
  },
  cpu_weight: {
    type: "number",
    optional: true,
    computed: true,
    default: 100,
    description:
      "Its part of a busy host, in proportion to the weights of the others there: 200 gets twice as much as 100. An edit takes effect live; adaptation never changes it. Default 100.",
    validators: [wholeNumber({ min: 1, max: 10_000 })],
  },
  memory_mib: {
    type: "number",
    optional: true,
    computed: true,
    description: "Baseline of memory in MiB. An edit takes effect live.",
    validators: [memoryMib],
  },
  site: {
    type: "string",
    optional: true,
    computed: true,
    description: "Baseline site. An edit is a live move, never a replacement.",
  },
  host: {
    type: "string",
    optional: true,
    description:
      "Host of its site where it is to be. An edit is a live move, never a replacement; taking it away moves nothing. Absent: the shepherd chooses. Adaptation within its bounds may take it elsewhere later: `effective.host`.",
  },
  networks: {
    type: {
      nesting: "list",
      attributes: {
        network_id: { type: "string", required: true, description: "Id of the network." },
        address: {
          type: "string",
          optional: true,
          computed: true,
          description: "IPv4 address. Absent: the lowest free one of the network.",
          validators: [ipv4Address],
        },
      },
    },
    required: true,
    description:
      "Networks that it is attached to, in the order of its cards. An edit takes effect live: cards are plugged in and unplugged; another address is another card.",
    validators: [size({ min: 0, max: 8 }, "at most 8 networks")],
  },
  adaptation: adaptationAttribute,
  ceiling: {
    type: {
      nesting: "single",
      attributes: {
        vcpus: {
          type: "number",
          optional: true,
          description: "Virtual CPUs that it can reach without a restart.",
          validators: [vcpus],
        },
        memory_mib: {
          type: "number",
          optional: true,
          description: "Memory in MiB that it can reach without a restart.",
          validators: [memoryMib],
        },
      },
    },
    optional: true,
    description:
      "What it is booted able to reach. Absent: the upper bounds of its adaptation. Raising it later needs a restart.",
  },
  disks: {
    type: {
      nesting: "list",
      attributes: {
        volume_id: {
          type: "string",
          required: true,
          description: "Id of a `drover_volume` of the same environment.",
        },
      },
    },
    optional: true,
    description: "Data volumes, in the order of vdb, vdc, …; they outlive the machine.",
    validators: [size({ min: 0, max: 8 }, "at most 8 volumes")],
  },
  user_data: {
    type: "string",
    optional: true,
    sensitive: true,
    description:
      "cloud-init user data, given to the guest on a NoCloud seed; at most 16 KiB. A change needs a restart.",
  },
  user_data_wo: {
    type: "string",
    optional: true,
    sensitive: true,
    writeOnly: true,
    description:
      "As user_data, for what must stand in no state and no plan: kept by the shepherd only. Given anew when user_data_wo_version changes.",
  },
  user_data_wo_version: {
    type: "number",
    optional: true,
    description: "Change it to have user_data_wo given to the guest again; that needs a restart.",
    validators: [wholeNumber({ min: 0, max: Number.MAX_SAFE_INTEGER })],
  },
  stop_timeout_s: {
    type: "number",
    optional: true,
    computed: true,
    description:
      "How long its guest may take to power off before it is cut off, in seconds; 0: at once. Default 20.",
    validators: [wholeNumber({ min: 0, max: 3600 })],
  },
  deletion_protection: {
    type: "bool",
    optional: true,
    computed: true,
    default: false,
    description:
      "Refuses a plan that would destroy or replace it, until this is taken back. Default false.",
  },
  keep_disk: {
    type: "bool",
    optional: true,
    computed: true,
    default: false,
    description:
      "What a destroy leaves: true keeps its own disk where it lies, as the volume `<name>-disk` of its environment, which another machine may name in its `disks` and which `drover_volume` imports; such a destroy needs nobody's consent. It counts as it was last applied. Default false: the disk goes with the machine.",
  },
  allow_restart: {
    type: "bool",
    optional: true,
    computed: true,
    default: false,
    description:
      "Lets apply restart its guest where a change cannot be made live; else such a plan is an error. Default false.",
  },
  raw_xml_patch: {
    type: {
      nesting: "list",
      attributes: {
        path: {
          type: "string",
          required: true,
          description: "Element of the domain's XML, or its attribute: `cpu/topology@sockets`.",
          validators: [
            matches(
              /^[a-z_][\w.-]*(\/[a-z_][\w.-]*)*(@[a-z_][\w.-]*)?$/i,
              "a path of element names, with `@attribute` at its end for an attribute: cpu/topology@sockets",
            ),
          ],
        },
        value: { type: "string", required: true, description: "Text of the element or attribute." },
      },
    },
    optional: true,
    description:
      "The escape hatch to libvirt features that drover does not model. Only paths that every site it may live at allows; host paths and the `qemu:` namespace never. A change needs a restart.",
  },
  start_from: {
    type: {
      nesting: "single",
      attributes: {
        vcpus: {
          type: "number",
          required: true,
          description: "Virtual CPUs at creation.",
          validators: [vcpus],
        },
        cpu_percent: {
          type: "number",
          required: true,
          description: "CPU percent at creation.",
          validators: [cpuPercent],
        },
        memory_mib: {
          type: "number",
          required: true,
          description: "Memory in MiB at creation.",
          validators: [memoryMib],
        },
        site: { type: "string", required: true, description: "Site at creation." },
        adaptation_id: {
          type: "string",
          required: true,
          description: "The still granted adaptation that explains these values.",
        },
      },
    },
    optional: true,
    computed: true,
    description:
      "Where a re-created machine starts, from adaptations.json. Used at creation only; later edits are ignored.",
  },
  effective: {
    type: {
      nesting: "single",
      attributes: {
        vcpus: { type: "number", computed: true, description: "Virtual CPUs now." },
        cpu_percent: {
          type: "number",
          computed: true,
          description: "CPU cap now, in percent of one host core.",
        },
        memory_mib: { type: "number", computed: true, description: "Memory now, in MiB." },
        site: { type: "string", computed: true, description: "Site where it runs now." },
        host: { type: "string", computed: true, description: "Host that it runs on now." },
        state: { type: "string", computed: true, description: "`running`, `stopped`, `moving`, …" },
        adaptation_id: {
          type: "string",
          computed: true,
          description: "The adaptation in force, if any.",
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
export type MachineAttributes = typeof machineAttributes;
export type MachineState = StateOf<MachineAttributes>;
export type MachinePlan = PlannedOf<MachineAttributes>;
export type EffectiveState = NonNullable<MachineState["effective"]>;
export type StartFromState = NonNullable<MachineState["start_from"]>;
export type AdaptationState = NonNullable<MachineState["adaptation"]>;
