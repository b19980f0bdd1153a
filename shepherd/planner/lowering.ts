/**
 * What takes nothing from anybody: changes that leave machines where they are and with less than they have. Such a change
 * may be taken on while the machine's host is silent, because whenever it is applied it is within what stands. Pure.
 */
import type { PlanAction } from "#model/plan";
import type { Request } from "#model/request";
import type { Target } from "#planner/target";

/** An ask for less where the machine is, or for what it has for longer; other attributes stay as they are. */
export function asksForLess({ kind }: Request, target: Target): boolean {
  const { machine, siteId, hostId, live, wanted, touched } = target;
  const { effective } = machine;
  return (
    kind === "resize" &&
    (siteId ?? effective.siteId) === effective.siteId &&
    (hostId ?? effective.hostId) === effective.hostId &&
    target.leaves !== true &&
    target.restart !== true &&
    target.networks === undefined &&
    touched.every(
      (attribute) => wanted[attribute] <= Math.min(live[attribute], effective[attribute]),
    )
  );
}

/** A plan of which each action lowers a machine; false for one without actions. */
export function onlyLowers(actions: readonly PlanAction[]): boolean {
  return actions.length > 0 && actions.every(lowers);
}

function lowers(action: PlanAction): boolean {
  switch (action.kind) {
    case "set_memory":
      return action.toMib <= action.fromMib;
    case "set_vcpus":
    case "set_cpu_percent":
      return action.to <= action.from;
    default:
      return false;
  }
}
