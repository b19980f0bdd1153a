/**
 * What adaptation may do, as attributes: the same words on a machine, on a group's template and, as defaults that are
 * inherited, on an environment.
 */
import { attributes, type Validator } from "#schema/attribute";
import { oneOf, size, wholeNumber } from "#schema/validators";

/** Modes of adaptation, everywhere the same. */
export const adaptationModes = ["auto", "approve", "advise", "pinned"] as const;
/** The attributes that adapt; each is a baseline at the top and a live value under `effective`. */
export const adaptable = ["vcpus", "cpu_percent", "memory_mib", "site"] as const;
export type Adaptable = (typeof adaptable)[number];

export const vcpus = wholeNumber({ min: 1, max: 255 });
export const cpuPercent = wholeNumber({ min: 1, max: 25_500 });
export const memoryMib = wholeNumber({ min: 64, max: 16_777_216 });
export const rateMbps = wholeNumber({ min: 1, max: 400_000 });
export const machineCount = wholeNumber({ min: 0, max: 1000 });

function rangeType(what: string, validator: Validator) {
  const bound = (word: string) =>
    ({
      type: "number",
      required: true,
      description: `${word} ${what} that adaptation may set.`,
      validators: [validator],
    }) as const;
  return {
    nesting: "single",
    attributes: { min: bound("Lowest"), max: bound("Highest") },
  } as const;
}

/** `absent` tells what holds when there are no bounds. */
export function range(what: string, validator: Validator, absent: string) {
  return {
    type: rangeType(what, validator),
    optional: true,
    description: `Bounds of ${what}. Absent: ${absent}.`,
  } as const;
}
export function requiredRange(what: string, validator: Validator) {
  return {
    type: rangeType(what, validator),
    required: true,
    description: `Bounds of ${what}.`,
  } as const;
}

export function modeAttribute(absent: string) {
  return {
    type: "string",
    optional: true,
    description: `\`auto\` (policy decides), \`approve\` (a person must agree), \`advise\` (only recorded) or \`pinned\` (never). Absent: ${absent}.`,
    validators: [oneOf(adaptationModes)],
  } as const;
}

/** Mode, ranges and sites: what machines and environments share. */
export function boundsAttributes(absent: { mode: string; range: string; sites: string }) {
  return attributes({
    mode: modeAttribute(absent.mode),
    vcpus: range("virtual CPUs", vcpus, absent.range),
    cpu_percent: range("CPU percent of one host core", cpuPercent, absent.range),
    memory_mib: range("memory in MiB", memoryMib, absent.range),
    sites: {
      type: ["set", "string"],
      optional: true,
      description: `Sites that it may live at. Absent: ${absent.sites}.`,
      validators: [size({ min: 1, max: 64 }, "at least one site")],
    },
  });
}

const oneOfAdaptable = oneOf(adaptable);
const eachAdaptable: Validator = (value, report) => {
  for (const item of Array.isArray(value) ? value : [])
    if (typeof item === "string") oneOfAdaptable(item, report);
};

export const adaptationAttribute = {
  type: {
    nesting: "single",
    attributes: {
      ...boundsAttributes({
        mode: "its environment's, else `auto`",
        range: "its environment's, else it does not adapt",
        sites: "its environment's, else only its baseline site",
      }),
      pinned_attributes: {
        type: ["set", "string"],
        optional: true,
        description:
          "Attributes that stay at their baselines whatever the bounds say: `vcpus`, `cpu_percent`, `memory_mib`, `site`.",
        validators: [eachAdaptable],
      },
    },
  },
  optional: true,
  description:
    "How far it may adapt while it runs, attribute by attribute over what its environment says. Absent: as its environment says, else it keeps its baselines.",
} as const;
