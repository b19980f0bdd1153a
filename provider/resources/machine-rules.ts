/** Rules between the attributes of a `drover_machine`. Pure; anything may still be unknown. */
import type { Rule } from "#schema/attribute";
import type { Report } from "#schema/report";
import { conflicting, together } from "#schema/rules";
import { isUnknown } from "#schema/value";
import type { MachinePlan as Planned } from "./machine-attributes.ts";
import type { Template } from "./machine-body.ts";

const ranged = ["vcpus", "cpu_percent", "memory_mib"] as const;

export function validateMachine(config: Planned, report: Report): void {
  if (config.speaker === true && config.group === null)
    report
      .at("speaker")
      .error(
        "A speaker needs a group",
        "Set group to the group that it speaks for, or remove speaker.",
      );
  checkUserData(config.user_data_wo, report.at("user_data_wo"));
  validateBounds(config, report);
}

/** What a validator of one attribute cannot say: the two ways of giving user data exclude each other. */
export const machineRules: readonly Rule[] = [
  conflicting("user_data", "user_data_wo"),
  together("user_data_wo", "user_data_wo_version"),
];

/** The same of a group's template, whose attributes have no rules of their own. */
export function validateUserData(
  template: Pick<Planned, "user_data" | "user_data_wo" | "user_data_wo_version">,
  report: Report,
): void {
  for (const rule of machineRules) rule(template, report);
  checkUserData(template.user_data_wo, report.at("user_data_wo"));
}

/** cloud-init's own limit is larger; a seed of this size fits every hypervisor. */
const maxUserDataBytes = 16 * 1024;

function checkUserData(text: unknown, report: Report): void {
  if (typeof text === "string" && Buffer.byteLength(text) > maxUserDataBytes)
    report.error(
      "User data is too long",
      `${Buffer.byteLength(text)} bytes given; at most ${maxUserDataBytes} fit. Let it fetch the rest.`,
    );
}

/** Baselines against bounds and ceiling: for a machine, and for the template of a group. */
export function validateBounds(
  config: Pick<
    Template,
    "vcpus" | "cpu_percent" | "memory_mib" | "adaptation" | "ceiling" | "user_data"
  > & {
    readonly site: Planned["site"];
  },
  report: Report,
): void {
  const { adaptation, ceiling } = config;
  checkUserData(config.user_data, report.at("user_data"));
  for (const name of ["vcpus", "memory_mib"] as const) {
    const highest = ceiling === null || isUnknown(ceiling) ? null : ceiling[name];
    const baseline = config[name];
    if (typeof highest === "number" && typeof baseline === "number" && baseline > highest)
      report
        .at("ceiling", name)
        .error(
          "Baseline above its ceiling",
          `${name} = ${baseline} lies above ${highest}; raise the ceiling or lower ${name}.`,
        );
  }
  if (adaptation === null || isUnknown(adaptation)) return;
  for (const name of ranged) {
    const range = adaptation[name];
    if (range === null || isUnknown(range)) continue;
    const { min, max } = range;
    const at = report.at("adaptation", name);
    const baseline = config[name];
    if (typeof min === "number" && typeof max === "number" && min > max)
      at.error("Empty range", `min ${min} is above max ${max}; swap them.`);
    else if (typeof baseline === "number" && typeof min === "number" && baseline < min)
      at.error(
        "Baseline outside its range",
        `${name} = ${baseline} lies below min ${min}; lower min or raise ${name}.`,
      );
    else if (typeof baseline === "number" && typeof max === "number" && baseline > max)
      at.error(
        "Baseline outside its range",
        `${name} = ${baseline} lies above max ${max}; raise max or lower ${name}.`,
      );
  }
  const { sites } = adaptation;
  if (sites === null || isUnknown(sites) || sites.some(isUnknown)) return;
  if (typeof config.site === "string" && !sites.includes(config.site))
    report
      .at("adaptation", "sites")
      .error(
        "Baseline site not among its sites",
        `site = "${config.site}" is not in ${JSON.stringify(sites)}; add it.`,
      );
}
