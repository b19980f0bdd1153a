/**
 * `drover_group`: machines of one template that adapt and scale together. How many there are is a baseline; a number that
 * was granted beyond it stands in `effective` and leaves the plan empty, one that nobody granted is put right.
 */
import { path } from "@drover/shepherd/api/client";
import type { GroupBody, GroupPatch, GroupView, RangeBody } from "@drover/shepherd/api/contract";
import { identityById } from "#schema/identity";
import type { Report } from "#schema/report";
import { defineResource, type PlannedChange, type PrivateData } from "#schema/resource";
import { equal, isUnknown, unknown, type Value } from "#schema/value";
import { declaredObject, splitImportId } from "./declared-object.ts";
import {
  type GroupAttributes,
  groupAttributes,
  groupRules,
  type GroupPlan as Planned,
  type GroupState as State,
  type TemplateState,
} from "./group-attributes.ts";
import { findOne } from "./lookup.ts";
import { known, knownItems, templateOf } from "./machine-body.ts";
import { isPinnedThere } from "./machine-plan.ts";
import { validateBounds, validateUserData } from "./machine-rules.ts";
import { absentOr, ownAdaptation } from "./machine-state.ts";
import { onlyStack } from "./plan-check.ts";
import { leaseTime } from "./time.ts";

export const group = defineResource({
  name: "drover_group",
  version: 0,
  description:
    "Machines of one template that adapt and scale together: resized as one, with links among them kept as they come and go.",
  importId: "environment/name or id",
  attributes: groupAttributes,
  rules: groupRules,
  validate: validateGroup,
  plan: planGroup,
  identity: identityById("group"),
  ...declaredObject<GroupAttributes, GroupView>({
    noun: "group",
    typeName: "drover_group",
    checkedAs: "group",
    beforeCheck: ({ prior, planned, replacing }, report) => {
      if (prior?.template.deletion_protection !== true) return;
      if (planned !== null && replacing.length === 0) return;
      report
        .at("template", "deletion_protection")
        .error(
          "Its machines are protected from deletion",
          "This plan would destroy them. To allow that, apply deletion_protection = false first. [object.protected]",
        );
    },
    attributes: Object.keys(groupAttributes),
    put: (planned, config) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/groups/${String(planned.name)}`,
      body: bodyOf(planned, config),
    }),
    one: (id) => path`/v1/groups/${id}`,
    lookUp: (client, planned) =>
      findOne<GroupView>(client, "/v1/groups", {
        environment: String(planned.environment_id),
        name: String(planned.name),
      }),
    patch: ({ prior, planned, config, private: kept }) => patchOf(prior, { planned, config }, kept),
    state: (view, prior) => ({
      state: stateOf(view, prior),
      private: pinnedThere(view) ? { pinned: true } : {},
    }),
    settle: keepPromises,
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => {
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/groups/${id}`)
        : findOne<GroupView>(client, "/v1/groups", key);
    },
    importIdOf: (planned) => `${String(planned.environment_id)}/${String(planned.name)}`,
  }),
});

function validateGroup(config: Planned, report: Report): void {
  const { machine_count, speaker, topology, topology_rate_mbps } = config;
  const template = known(config.template);
  if (template !== null) {
    validateUserData(template, report.at("template"));
    validateBounds(template, report.at("template"));
  }
  const bounds = known(known(config.adaptation)?.machine_count ?? null);
  const at = report.at("adaptation", "machine_count");
  if (bounds !== null && typeof machine_count === "number") {
    const { min, max } = bounds;
    if (typeof min === "number" && machine_count < min)
      at.error(
        "Baseline outside its range",
        `machine_count = ${machine_count} lies below min ${min}; lower min or raise machine_count.`,
      );
    if (typeof max === "number" && machine_count > max)
      at.error(
        "Baseline outside its range",
        `machine_count = ${machine_count} lies above max ${max}; raise max or lower machine_count.`,
      );
  }
  if (typeof speaker === "number" && typeof machine_count === "number" && speaker >= machine_count)
    report
      .at("speaker")
      .error(
        "No such machine",
        `speaker = ${speaker}, but the machines are 0 to ${machine_count - 1}; name one of them, or -1 for none.`,
      );
  if (typeof topology === "string" && topology !== "none" && topology_rate_mbps === null)
    report
      .at("topology")
      .error("A topology needs a rate", "Set topology_rate_mbps, the rate of each of its links.");
}

/** Its environment pins it, and it says nothing of a mode itself. */
function pinnedThere({ adaptation }: GroupView): boolean {
  return adaptation.mode === null && adaptation.mode_in_force === "pinned";
}

function planGroup(
  { prior, planned, private: kept }: PlannedChange<GroupAttributes>,
  report: Report,
): Partial<Planned> {
  const effective = prior?.effective;
  if (prior === null || effective === null || effective === undefined) return {};
  if (!scales(prior, planned, kept)) return { effective };
  const { machine_count: count } = planned;
  const { adaptation_id, lease_until, machine_count: live } = effective;
  if (adaptation_id !== null && live !== count)
    report
      .at("machine_count")
      .warning(
        "An approved adaptation will be superseded",
        `Adaptation ${adaptation_id} is in force ${lease_until === null ? "until released" : `until ${lease_until}`}; there are ${live} machines. Applying this makes it the planned number.`,
      );
  return {
    effective: {
      machine_count: isUnknown(count) ? unknown : count,
      machines: live === count ? effective.machines : unknown,
      adaptation_id: unknown,
      lease_until: unknown,
      reason: unknown,
    },
  };
}

/** Whether the number of machines is to be put in force: it was edited, or nothing allows the live one. */
function scales(prior: State, planned: Planned, kept: PrivateData): boolean {
  const { effective } = prior;
  const { machine_count: count } = planned;
  if (count !== prior.machine_count) return true;
  const live = effective?.machine_count;
  if (effective === null || live === count) return false;
  const adaptation = known(planned.adaptation);
  const bounds = known(adaptation?.machine_count ?? null);
  const outside =
    bounds !== null && (Number(live) < Number(bounds.min) || Number(live) > Number(bounds.max));
  const mode = known(adaptation?.mode ?? null);
  const isPinned = mode === "pinned" || (mode === null && isPinnedThere(planned, kept));
  return effective.adaptation_id === null || isPinned || outside;
}

/** `config` holds what stands in no plan. */
function bodyOf(planned: Planned, config: Pick<Planned, "template">): GroupBody {
  const template = known(planned.template);
  const secret = known(known(config.template)?.user_data_wo ?? null);
  const body = templateBody(template);
  return {
    template: secret === null ? body : { ...body, user_data: secret },
    machine_count: planned.machine_count as number,
    adaptation: adaptationBody(planned.adaptation),
    topology: known(planned.topology) as GroupBody["topology"] & string,
    topology_rate_mbps: known(planned.topology_rate_mbps),
    coupling: known(planned.coupling) as GroupBody["coupling"] & string,
    speaker: speakerBody(planned.speaker),
  };
}

function templateBody(template: Exclude<Planned["template"], { kind: "unknown" }>) {
  if (template === null || isUnknown(template)) return {} as GroupBody["template"];
  return {
    ...templateOf(template),
    site: known(template.site),
    networks: knownItems(template.networks).map(({ network_id }) => ({
      network_id: network_id as string,
    })),
  };
}

function adaptationBody(
  adaptation: Planned["adaptation"],
): (GroupBody["adaptation"] & object) | null {
  const given = known(adaptation);
  if (given === null) return null;
  return {
    mode: known(given.mode) as "auto" | null,
    machine_count: known(given.machine_count) as RangeBody | null,
  };
}

function speakerBody(speaker: Planned["speaker"]): number | null {
  return typeof speaker === "number" && speaker >= 0 ? speaker : null;
}

function patchOf(
  prior: State,
  { planned, config }: { readonly planned: Planned; readonly config: Pick<Planned, "template"> },
  kept: PrivateData,
): GroupPatch | undefined {
  const body: GroupPatch = {};
  const changed = (name: keyof State) =>
    !isUnknown(planned[name]) && !equal(planned[name] as Value, prior[name] as Value);
  const whole = bodyOf(planned, config);
  if (changed("template")) {
    const { user_data, ...others } = whole.template;
    const template = known(planned.template);
    const isSame =
      template?.user_data === prior.template.user_data &&
      template.user_data_wo_version === prior.template.user_data_wo_version;
    // Not said, it stays as it is.
    body.template = isSame ? others : { ...others, user_data: user_data ?? null };
  }
  if (changed("adaptation")) body.adaptation = whole.adaptation ?? null;
  if (changed("topology")) body.topology = whole.topology ?? null;
  if (changed("topology_rate_mbps")) body.topology_rate_mbps = whole.topology_rate_mbps ?? null;
  if (changed("coupling")) body.coupling = whole.coupling ?? null;
  if (changed("speaker")) body.speaker = whole.speaker ?? null;
  if (scales(prior, planned, kept)) {
    body.machine_count = whole.machine_count;
    body.planned_effective = { machine_count: whole.machine_count };
    if (typeof prior.effective?.machine_count === "number")
      body.planned_from = { machine_count: prior.effective.machine_count };
  }
  return Object.keys(body).length === 0 ? undefined : body;
}

function stateOf(view: GroupView, prior: Planned | null): State {
  const { effective, adaptation } = view;
  const written = known(prior?.adaptation ?? null) !== null;
  const mode = known(known(prior?.adaptation ?? null)?.mode ?? null);
  // What an older shepherd stored says `auto` where the stack said nothing.
  const own = mode === null && adaptation.mode === "auto" ? null : adaptation.mode;
  const silent = own === null && adaptation.machine_count === null;
  return {
    id: view.id,
    environment_id: view.environment_id,
    name: view.name,
    template: templateState(view.template, known(prior?.template ?? null)),
    machine_count: view.machine_count,
    adaptation: silent && !written ? null : { mode: own, machine_count: adaptation.machine_count },
    topology: view.topology,
    topology_rate_mbps: view.topology_rate_mbps,
    coupling: view.coupling,
    speaker: view.speaker ?? -1,
    effective: {
      machine_count: effective.machine_count,
      machines: effective.machines.map(({ id, name, origin }) => ({ id, name, origin })),
      adaptation_id: effective.adaptation_id,
      lease_until: leaseTime(effective.lease_until_ms),
      reason: effective.reason,
    },
    ways: onlyStack(prior?.ways) ?? {},
    timeouts: onlyStack(prior?.timeouts),
  };
}

function templateState(
  template: GroupView["template"],
  prior: Exclude<Planned["template"], { kind: "unknown" }>,
): TemplateState {
  const before = prior === null || isUnknown(prior) ? undefined : prior;
  return {
    image_id: template.image_id,
    class: template.class ?? null,
    vcpus: template.vcpus ?? null,
    cpu_percent: template.cpu_percent ?? null,
    cpu_weight: template.cpu_weight ?? null,
    memory_mib: template.memory_mib ?? null,
    site: template.site ?? null,
    networks: template.networks.map(({ network_id }) => ({ network_id })),
    adaptation: ownAdaptation(template.adaptation ?? null, before?.adaptation),
    ceiling: onlyStack(before?.ceiling),
    user_data: template.user_data ?? onlyStack(before?.user_data),
    user_data_wo: null,
    user_data_wo_version: onlyStack(before?.user_data_wo_version),
    stop_timeout_s: template.stop_timeout_s ?? null,
    deletion_protection: template.deletion_protection ?? false,
    allow_restart: template.allow_restart ?? false,
    raw_xml_patch: absentOr(template.raw_xml_patch ?? [], before?.raw_xml_patch),
  };
}

/** What the plan said of the live number was reached, or the call would have failed. */
function keepPromises(reached: State, planned: Planned): State {
  const promised = planned.effective;
  if (promised === null || isUnknown(promised) || reached.effective === null) return reached;
  const kept = Object.entries(promised).filter(([, value]) => !isUnknown(value));
  return { ...reached, effective: { ...reached.effective, ...Object.fromEntries(kept) } };
}
