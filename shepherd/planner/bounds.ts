/**
 * What the stack's own words rule out for anybody else: fewer machines of a group than it declared, more than it allows,
 * links where it allows none. Pure, in code and not in policy, because a floor that a rule could forget is none.
 */
import type { Facts } from "#model/facts";
import type { PlanRefusal } from "#model/plan";
import type { Request } from "#model/request";
import { membersOf, scaleBounds } from "#planner/groups";

/** Undefined: within what the stack allows. The stack itself changes its words by `create`, `update` and `destroy`. */
export function boundsRefusal(request: Request, facts: Facts): PlanRefusal | undefined {
  if (request.kind === "scale") return scaleRefusal(request, facts);
  if (request.kind === "topology") return topologyRefusal(request, facts);
  return undefined;
}

function scaleRefusal(request: Request, facts: Facts): PlanRefusal | undefined {
  const { scale } = request;
  const group = facts.groups.find(({ id }) => id === scale?.groupId);
  if (scale === undefined || group === undefined) return undefined;
  const { name } = group.spec;
  const environment = facts.environments.find(({ id }) => id === request.environmentId);
  const bounds = scaleBounds(group, environment?.spec);
  const now = membersOf(group.spec, facts.machines).filter(({ version }) => version > 0).length;
  if (bounds === undefined) {
    return refused("envelope.machine_count", `the number of machines of ${name} does not adapt`, {
      machines: now,
    });
  }
  const { machineCount } = scale;
  if (machineCount > bounds.max) {
    return refused(
      "envelope.machine_count",
      `${machineCount} machines are above ${name}'s ${bounds.max}`,
      {
        machines: bounds.max,
      },
    );
  }
  if (machineCount < bounds.min) {
    return refused(
      "envelope.machine_count",
      `${machineCount} machines are below ${name}'s ${bounds.min}; its stack declared ${group.spec.machineCount}`,
      { machines: bounds.min },
    );
  }
  return undefined;
}

function topologyRefusal(request: Request, facts: Facts): PlanRefusal | undefined {
  const environment = facts.environments.find(({ id }) => id === request.environmentId);
  const allowed = environment?.spec.adaptation?.links;
  const asked = new Map(request.links.map(({ linkId, rateMbps }) => [linkId, rateMbps]));
  const added = facts.links.filter(
    ({ id, environmentId, spec }) =>
      environmentId === request.environmentId &&
      spec.origin === "adaptation" &&
      (asked.get(id) ?? 1) > 0,
  );
  const wanted = added.filter(({ id }) => asked.has(id));
  if (wanted.length === 0) return undefined;
  const name = environment?.spec.name ?? "this environment";
  if (allowed === undefined)
    return refused("envelope.links", `nobody may add links to ${name}`, {});
  if (added.length > allowed.maxAdded) {
    return refused(
      "envelope.links",
      `${added.length} added links are above ${name}'s ${allowed.maxAdded}`,
      { links: allowed.maxAdded },
    );
  }
  for (const { id } of wanted) {
    const rateMbps = asked.get(id) ?? 0;
    const { min, max } = allowed.rateMbps;
    if (rateMbps >= min && rateMbps <= max) continue;
    return refused(
      "envelope.links",
      `${rateMbps} Mbit/s are outside the ${min} to ${max} of links that are added to ${name}`,
      { rate_mbps: Math.min(Math.max(rateMbps, min), max) },
    );
  }
  return undefined;
}

function refused(
  code: PlanRefusal["code"],
  message: string,
  nearest: Readonly<Record<string, number>>,
): PlanRefusal {
  return { kind: "refused", code, message, refusedBy: { envelope: 1 }, nearest };
}
