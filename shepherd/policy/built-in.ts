/**
 * The two grants that need no policy, checked by code on the plan itself: `release` only lowers towards the baseline
 * or gives up machines whose disks stay, `repair` only brings hosts to what the journal says was granted. Pure. A plan that does anything else is no such plan,
 * whoever asked for it.
 */
import type { Facts } from "#model/facts";
import { defaultCpuWeight } from "#model/objects";
import type { Plan, PlanAction } from "#model/plan";
import type { Request } from "#model/request";

export type BuiltIn = "release" | "repair";

/** Which built-in grant covers this plan; undefined = policy must judge it. */
export function builtInFor(request: Request, plan: Plan, facts: Facts): BuiltIn | undefined {
  if (request.kind === "repair") {
    return plan.actions.every((action) => converges(action, facts)) ? "repair" : undefined;
  }
  if (request.kind === "destroy") return deletesNoDisk(plan) ? "release" : undefined;
  const givesBack =
    request.kind === "release" || request.kind === "resize" || request.kind === "rate";
  if (!givesBack || !plan.actions.every((action) => lowersToBaseline(action, request, facts))) {
    return undefined;
  }
  // A resize that changes nothing still asks for a new lease: that is no giving back.
  return request.kind === "release" || plan.actions.length > 0 ? "release" : undefined;
}

/** Compute goes, and every disk stays: whoever may destroy may do that without anybody's consent. */
function deletesNoDisk({ actions }: Plan): boolean {
  return (
    actions.length > 0 &&
    actions.every((action) => action.kind === "destroy_machine" && action.keepDisk === true)
  );
}

function lowersToBaseline(action: PlanAction, request: Request, facts: Facts): boolean {
  if (action.kind === "set_rate") {
    const link = facts.links.find(({ id }) => id === action.linkId);
    // A group's own links follow the number of its machines on its way back to the baseline.
    const group = link && groupOf(link.spec.group, request, facts);
    if (group !== undefined) {
      return action.toMbps === 0 || action.toMbps === group.spec.topologyRateMbps;
    }
    return (
      link !== undefined &&
      action.toMbps <= link.effective.rateMbps &&
      action.toMbps <= action.fromMbps &&
      action.toMbps >= Math.min(link.spec.rateMbps, link.effective.rateMbps)
    );
  }
  if (!("machineId" in action)) return false;
  const machine = facts.machines.find(({ id }) => id === action.machineId);
  if (machine === undefined) return false;
  const { effective, spec } = machine;
  // What a guest added goes with the release of its group; what the stack declared, never.
  if (action.kind === "destroy_machine") {
    return spec.origin === "adaptation" && groupOf(spec.group, request, facts) !== undefined;
  }
  const within = (from: number, to: number, granted: number, baseline: number) =>
    to <= from && to <= granted && to >= Math.min(baseline, granted);
  switch (action.kind) {
    case "set_memory":
      return within(action.fromMib, action.toMib, effective.memoryMib, spec.baseline.memoryMib);
    case "set_vcpus":
      return within(action.from, action.to, effective.vcpus, spec.baseline.vcpus);
    case "set_cpu_percent":
      return within(action.from, action.to, effective.cpuPercent, spec.baseline.cpuPercent);
    default:
      return false;
  }
}

/** The group of that name, when the request brings it back to as many machines as its stack declared. */
function groupOf(
  name: string | undefined,
  request: Request,
  facts: Facts,
): Facts["groups"][number] | undefined {
  const { scale } = request;
  if (request.kind !== "release" || scale === undefined) return undefined;
  const group = facts.groups.find(({ id }) => id === scale.groupId);
  const isIt = group?.spec.name === name && scale.machineCount === group?.spec.machineCount;
  return isIt ? group : undefined;
}

function converges(action: PlanAction, facts: Facts): boolean {
  if (action.kind === "apply_network") return true;
  // The janitor orders these itself (janitor.ts); through the gate nobody may.
  if (action.kind === "sweep_host") return false;
  if (action.kind === "grow_volume" || action.kind === "remove_volume") return false;
  if (action.kind === "set_rate") {
    const link = facts.links.find(({ id }) => id === action.linkId);
    return action.toMbps === link?.effective.rateMbps;
  }
  const effective = facts.machines.find(({ id }) => id === action.machineId)?.effective;
  switch (action.kind) {
    case "set_memory":
      return action.toMib === effective?.memoryMib;
    case "set_vcpus":
      return action.to === effective?.vcpus;
    case "set_cpu_percent":
      return action.to === effective?.cpuPercent;
    case "set_cpu_weight":
      return effective !== undefined && action.to === (effective.cpuWeight ?? defaultCpuWeight);
    default:
      return false;
  }
}
