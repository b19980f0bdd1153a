/**
 * Whose consent a request and a plan need: the operator, the environment's owner, and the owner of every site that is
 * touched. Pure. Which bundle speaks for an owner is the gate's map; an owner without one consents to nothing.
 */
import type { Facts } from "#model/facts";
import type { EnvironmentRecord, MachineRecord } from "#model/objects";
import type { Plan } from "#model/plan";
import type { Request } from "#model/request";
import type { SiteId } from "#model/units";
import { compareText, targetsOf } from "#planner/target";

/** `operator`, `owner:alice`, `site:north`: the words of `Finding.owner`. */
export type OwnerName = string;

export const operator: OwnerName = "operator";

export function siteOwner(siteId: SiteId): OwnerName {
  return `site:${siteId}`;
}

/** The site an owner name speaks for; undefined for the operator and for environments' owners. */
export function siteOfOwner(owner: OwnerName): SiteId | undefined {
  return owner.startsWith("site:") ? owner.slice("site:".length) : undefined;
}

/** The sites a request is about before anything is planned: where its machines are, or are to be. */
export function sitesOfRequest(request: Request, facts: Facts): readonly SiteId[] {
  const machines = targetsOf(request, facts).flatMap(({ machine, siteId }) => [
    ...siteOf(machine),
    ...(siteId === undefined ? [] : [siteId]),
  ]);
  return sorted([...machines, ...sitesOfLinks(request, facts)]);
}

/** The sites that a plan takes from or gives to. */
export function sitesOfPlan(plan: Plan, request: Request, facts: Facts): readonly SiteId[] {
  const touched = plan.actions.flatMap((action): SiteId[] => {
    switch (action.kind) {
      case "create_machine":
        return [action.siteId];
      case "move_machine":
        return [action.fromSiteId, action.toSiteId];
      case "set_rate":
      case "apply_network":
      case "sweep_host":
        return [];
      case "grow_volume":
      case "remove_volume":
        return facts.volumes
          .filter(({ id, effective }) => id === action.volumeId && effective.siteId !== "")
          .map(({ effective }) => effective.siteId);
      default:
        return facts.machines.filter(({ id }) => id === action.machineId).flatMap(siteOf);
    }
  });
  return sorted([...touched, ...sitesOfLinks(request, facts)]);
}

/** Sites that a plan moves machines to, from another one. */
export function destinationsOf(plan: Plan): readonly SiteId[] {
  return sorted(
    plan.actions.flatMap((action) =>
      action.kind === "move_machine" && action.fromSiteId !== action.toSiteId
        ? [action.toSiteId]
        : [],
    ),
  );
}

export function ownersOf(
  environment: EnvironmentRecord,
  siteIds: readonly SiteId[],
): readonly OwnerName[] {
  return [operator, `owner:${environment.spec.owner}`, ...siteIds.map(siteOwner)];
}

/** A promise with a network may be used up towards any of its machines: their sites' paths carry it as well. */
function sitesOfLinks(request: Request, facts: Facts): readonly SiteId[] {
  return request.links.flatMap(({ linkId }) => {
    const link = facts.links.find(({ id }) => id === linkId);
    if (link === undefined) return [];
    const { machines, network } = link.spec;
    const networkId =
      network === undefined
        ? undefined
        : facts.networks.find(({ key }) => key === `${link.environmentId}/${network}`)?.id;
    return facts.machines
      .filter(
        ({ environmentId, spec }) =>
          environmentId === link.environmentId &&
          (machines.includes(spec.name) ||
            (networkId !== undefined && spec.networks.some((nic) => nic.networkId === networkId))),
      )
      .flatMap(siteOf);
  });
}

function siteOf({ spec, effective }: MachineRecord): SiteId[] {
  return [effective.hostId === "" ? spec.baseline.siteId : effective.siteId];
}

function sorted(siteIds: readonly SiteId[]): readonly SiteId[] {
  return [...new Set(siteIds)].toSorted(compareText);
}
