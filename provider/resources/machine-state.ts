/**
 * The state of a `drover_machine` as the shepherd sees it: baselines, except where a foreign change hides one; what the
 * user left out stays out. Pure.
 */
import { createHash } from "node:crypto";
import type { MachineAdaptation, MachineView } from "@drover/shepherd/api/contract";
import type { PrivateData, Reached } from "#schema/resource";
import { isUnknown } from "#schema/value";
import type { Adaptable } from "./adaptation-attributes.ts";
import type {
  AdaptationState as Adaptation,
  MachineAttributes,
  MachinePlan as Planned,
  StartFromState as StartFrom,
  MachineState as State,
} from "./machine-attributes.ts";
import type { Kept } from "./machine-plan.ts";
import { onlyStack } from "./plan-check.ts";
import { leaseTime } from "./time.ts";

/** The state as the shepherd sees the machine; `prior` says what the user left unset. */
export function stateOf(
  view: MachineView,
  prior: Planned | null,
): Reached<MachineAttributes> & { state: State } {
  const drifted = new Map(
    view.drift.flatMap(({ attribute, actual }) =>
      attribute === "networks" ? [] : [[attribute, actual] as const],
    ),
  );
  const cards = view.networks.map(({ network_id, address }) => ({ network_id, address }));
  const plugged = cards.filter((_, at) => view.networks[at]?.plugged !== false);
  const live = <Name extends Adaptable>(name: Name) =>
    (drifted.get(name) ?? view[name]) as MachineView[Name];
  const { effective } = view;
  const kept: Kept = {
    ...(drifted.size === 0
      ? {}
      : { baseline: Object.fromEntries([...drifted.keys()].map((name) => [name, view[name]])) }),
    ...(plugged.length === cards.length ? {} : { networks: cards }),
    ...(view.adaptation.mode === "pinned" && view.declared_adaptation?.mode !== "pinned"
      ? { pinned: true }
      : {}),
  };
  return {
    private: kept as PrivateData,
    state: {
      id: view.id,
      environment_id: view.environment_id,
      name: view.name,
      group: view.group,
      speaker: view.speaker,
      class: view.class,
      image_id: view.image_id,
      vcpus: live("vcpus"),
      cpu_percent: live("cpu_percent"),
      // One that somebody changed shows here, so that plan puts it right.
      cpu_weight: Number(drifted.get("cpu_weight") ?? view.cpu_weight),
      memory_mib: live("memory_mib"),
      site: live("site"),
      host: view.host,
      // One that somebody unplugged is missing here, so that plan shows it and apply plugs it in again.
      networks: plugged,
      adaptation: ownAdaptation(view.declared_adaptation, prior?.adaptation),
      ceiling: onlyStack(prior?.ceiling),
      disks: absentOr(view.disks, prior?.disks),
      user_data: userDataOf(view, prior),
      user_data_wo: null,
      user_data_wo_version: onlyStack(prior?.user_data_wo_version),
      stop_timeout_s: view.stop_timeout_s,
      deletion_protection: view.deletion_protection,
      // What a destroy is to leave is said when it comes.
      keep_disk: onlyStack(prior?.keep_disk) ?? false,
      allow_restart: view.allow_restart,
      raw_xml_patch: absentOr(view.raw_xml_patch, prior?.raw_xml_patch),
      start_from: startOf(view, prior),
      effective: {
        vcpus: effective.vcpus,
        cpu_percent: effective.cpu_percent,
        memory_mib: effective.memory_mib,
        site: effective.site,
        host: effective.host,
        state: effective.state,
        adaptation_id: effective.adaptation_id,
        lease_until: leaseTime(effective.lease_until_ms),
        reason: effective.reason,
      },
      ways: onlyStack(prior?.ways) ?? {},
      timeouts: onlyStack(prior?.timeouts),
    },
  };
}

/** An empty list where the user wrote none is none. */
export function absentOr<T>(list: readonly T[], before: unknown): readonly T[] | null {
  return list.length === 0 && !Array.isArray(before) ? null : list;
}

/** The shepherd keeps it and shows its hash: another text than the stack's shows as missing. */
function userDataOf(view: MachineView, prior: Planned | null): string | null {
  const text = prior?.user_data;
  if (typeof text !== "string" || view.user_data_sha256 === null) return null;
  const digest = createHash("sha256").update(text).digest("hex");
  return digest === view.user_data_sha256 ? text : null;
}

function startOf(view: MachineView, prior: Planned | null): StartFrom {
  const start = prior?.start_from;
  if (start !== undefined && start !== null && !isUnknown(start)) return start as StartFrom;
  const { vcpus, cpu_percent, memory_mib, site } = view;
  return { vcpus, cpu_percent, memory_mib, site, adaptation_id: "" };
}

/** Its own bounds; an object that says nothing stays one where the user wrote it so. */
export function ownAdaptation(
  declared: MachineAdaptation | null,
  before: Planned["adaptation"] | undefined,
): Adaptation | null {
  const said = declared ?? {};
  const own: Adaptation = {
    mode: said.mode ?? null,
    vcpus: said.vcpus ?? null,
    cpu_percent: said.cpu_percent ?? null,
    memory_mib: said.memory_mib ?? null,
    sites: said.sites ?? null,
    pinned_attributes: said.pinned_attributes ?? null,
  };
  const isWritten = before !== undefined && before !== null && !isUnknown(before);
  if (isWritten && Array.isArray(before.pinned_attributes) && own.pinned_attributes === null)
    return { ...own, pinned_attributes: [] };
  const silent = Object.values(own).every((value) => value === null);
  return silent && !isWritten ? null : own;
}

/**
 * After a change that succeeded: the live values that the plan named were reached, or the call would have failed with
 * plan.stale or worse; a newer adaptation shows at the next read, as it would a moment later anyway.
 */
export function keepPromises(reached: State, planned: Planned): State {
  const promised = planned.effective;
  if (promised === null || isUnknown(promised) || reached.effective === null) return reached;
  const kept = Object.entries(promised).filter(([, value]) => !isUnknown(value));
  return { ...reached, effective: { ...reached.effective, ...Object.fromEntries(kept) } };
}
