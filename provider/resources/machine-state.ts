/**
 * The state of a `drover_machine` as the shepherd sees it: baselines, except where a foreign change hides one; what the
 * user left out stays out. Pure.
 */
import type { MachineView } from "@drover/shepherd/api/contract";
import type { PrivateData, Reached } from "#schema/resource";
import { isUnknown } from "#schema/value";
import type {
  AdaptationState as Adaptation,
  MachineAttributes,
  MachinePlan as Planned,
  StartFromState as StartFrom,
  MachineState as State,
} from "./machine-attributes.ts";
import type { Adaptable, Kept } from "./machine-plan.ts";
import { leaseTime } from "./time.ts";

/** The state as the shepherd sees the machine; `prior` says what the user left unset. */
export function stateOf(
  view: MachineView,
  prior: Planned | null,
): Reached<MachineAttributes> & { state: State } {
  const drifted = new Map(view.drift.map(({ attribute, actual }) => [attribute, actual]));
  const live = <Name extends Adaptable>(name: Name) =>
    (drifted.get(name) ?? view[name]) as MachineView[Name];
  const { effective } = view;
  const kept: Kept =
    drifted.size === 0
      ? {}
      : { baseline: Object.fromEntries([...drifted.keys()].map((name) => [name, view[name]])) };
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
      memory_mib: live("memory_mib"),
      site: live("site"),
      networks: view.networks.map(({ network_id, address }) => ({ network_id, address })),
      adaptation: adaptationOf(view, prior),
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
    },
  };
}

function startOf(view: MachineView, prior: Planned | null): StartFrom {
  const start = prior?.start_from;
  if (start !== undefined && start !== null && !isUnknown(start)) return start as StartFrom;
  const { vcpus, cpu_percent, memory_mib, site } = view;
  return { vcpus, cpu_percent, memory_mib, site, adaptation_id: "" };
}

/** The envelope; null where the user wrote none and the shepherd has the one that means the same. */
function adaptationOf(view: MachineView, prior: Planned | null): Adaptation | null {
  const { mode, vcpus, cpu_percent, memory_mib, sites } = view.adaptation;
  const before = prior?.adaptation;
  const written = before === undefined || before === null || isUnknown(before) ? null : before;
  const onlyBaselineSite = sites?.length === 1 && sites[0] === view.site;
  const keepSites =
    sites !== undefined && sites !== null && (!onlyBaselineSite || Boolean(written?.sites));
  const fixed = !vcpus && !cpu_percent && !memory_mib && !keepSites;
  if (written === null && fixed && mode === "auto") return null;
  return {
    mode,
    vcpus: vcpus ?? null,
    cpu_percent: cpu_percent ?? null,
    memory_mib: memory_mib ?? null,
    sites: keepSites ? sites : null,
  };
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
