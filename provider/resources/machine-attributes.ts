/**
 * The attributes of `drover_machine`. Baselines are what the stack asks for; live values stand in `effective`, so that
 * an approved adaptation never shows as a change (design D of docs/decisions/0006).
 */
import { attributes, type PlannedOf, type StateOf } from "#schema/attribute";
import { ipv4Address, objectName, oneOf, size, wholeNumber } from "#schema/validators";

/** Modes of adaptation, everywhere the same. */
export const adaptationModes = ["auto", "approve", "advise", "pinned"] as const;

const vcpus = wholeNumber({ min: 1, max: 255 });
const cpuPercent = wholeNumber({ min: 1, max: 25_500 });
const memoryMib = wholeNumber({ min: 64, max: 16_777_216 });

function range(what: string, validator: typeof vcpus) {
  return {
    type: {
      nesting: "single",
      attributes: {
        min: {
          type: "number",
          required: true,
          description: `Lowest ${what} that adaptation may set.`,
          validators: [validator],
        },
        max: {
          type: "number",
          required: true,
          description: `Highest ${what} that adaptation may set.`,
          validators: [validator],
        },
      },
    },
    optional: true,
    description: `Bounds of ${what}. Absent: it does not adapt.`,
  } as const;
}

export const machineAttributes = attributes({
  id: {
    type: "string",
    computed: true,
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
    replaces: true,
    description: "Networks that it is attached to, in the order of its interfaces.",
    validators: [size({ min: 0, max: 8 }, "at most 8 networks")],
  },
  adaptation: {
    type: {
      nesting: "single",
      attributes: {
        mode: {
          type: "string",
          optional: true,
          computed: true,
          default: "auto",
          description:
            "`auto` (policy decides), `approve` (a person must agree), `advise` (only recorded) or `pinned` (never). Default `auto`.",
          validators: [oneOf(adaptationModes)],
        },
        vcpus: range("virtual CPUs", vcpus),
        cpu_percent: range("CPU percent of one host core", cpuPercent),
        memory_mib: range("memory in MiB", memoryMib),
        sites: {
          type: ["set", "string"],
          optional: true,
          description: "Sites that it may live at. Absent: only its baseline site.",
        },
      },
    },
    optional: true,
    description: "How far the machine may adapt while it runs. Absent: it keeps its baselines.",
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
});
export type MachineAttributes = typeof machineAttributes;
export type MachineState = StateOf<MachineAttributes>;
export type MachinePlan = PlannedOf<MachineAttributes>;
export type EffectiveState = NonNullable<MachineState["effective"]>;
export type StartFromState = NonNullable<MachineState["start_from"]>;
export type AdaptationState = NonNullable<MachineState["adaptation"]>;
