/**
 * Answers a request with a plan: which actions, on which hosts, at what predicted cost, and why not others; or with a
 * refusal that counts its reasons. Pure and deterministic: the same request and facts give the same plan, here, in the
 * simulator and on a saved snapshot. It knows no policy: who may do this was asked before and is asked again with the plan.
 */

import { digestOf } from "#model/canonical";
import type { Facts } from "#model/facts";
import type { Plan, PlanAction, PlanRefusal } from "#model/plan";
import type { Limits, Request } from "#model/request";
import type { Digest, Ms, PlanId, SiteId } from "#model/units";
import {
  destroyActions,
  inOrder,
  networkActions,
  placementActions,
  rateActions,
  sizingActions,
  volumeActions,
} from "#planner/actions";
import { assign } from "#planner/assignment";
import { boundsRefusal } from "#planner/bounds";
import { totalCost } from "#planner/cost";
import { linkTargetsOf, type Target, targetsOf } from "#planner/target";
import { uplinkRefusal } from "#planner/uplinks";

export interface PlanDraft {
  readonly kind: "planned";
  readonly actions: Plan["actions"];
  readonly cost: Plan["cost"];
  readonly explanation: Plan["explanation"];
}

export interface PlanOptions {
  /** Of the decision: a move whose predicted downtime is above the limit is no candidate. */
  readonly limits?: Limits | undefined;
  /** Sites whose owner has denied this request: not tried again. */
  readonly deniedSites?: ReadonlySet<SiteId> | undefined;
}

/** Machines and links that facts do not know are left out: intake has refused such names already. */
export function plan(
  request: Request,
  facts: Facts,
  options: PlanOptions = {},
): PlanDraft | PlanRefusal {
  const outside = boundsRefusal(request, facts);
  if (outside !== undefined) return outside;
  const targets = targetsOf(request, facts);
  const links = linkTargetsOf(request, facts);
  switch (request.kind) {
    case "destroy":
      return draft([
        ...destroyActions(targets),
        ...rateActions(links.map((link) => ({ ...link, wantedMbps: 0 }))),
        ...volumeActions(request.volumes ?? [], facts),
      ]);
    case "repair":
      return draft([
        ...targets.flatMap(sizingActions),
        ...networkActions(hostsToRepair(targets, facts)),
      ]);
    case "release":
      return draft([
        ...targets.filter(({ remove }) => remove !== true).flatMap(sizingActions),
        ...rateActions(links),
        ...destroyActions(targets.filter(({ remove }) => remove === true)),
      ]);
    case "create":
    case "update":
    case "resize":
    case "rate":
    case "move":
    case "scale":
    case "topology":
      return planPlaced(targets, rateActions(links), facts, options);
  }
}

/** What a grant permits: the actions for this request, in this order. */
export function digestOfPlan(
  sealed: Pick<Plan, "requestId" | "environmentId" | "actions">,
): Digest {
  return digestOf({
    requestId: sealed.requestId,
    environmentId: sealed.environmentId,
    actions: sealed.actions,
  });
}

export function sealPlan(
  drafted: PlanDraft,
  of: { readonly id: PlanId; readonly request: Request; readonly createdAtMs: Ms },
): Plan {
  const named = {
    requestId: of.request.id,
    environmentId: of.request.environmentId,
    actions: drafted.actions,
  };
  return {
    id: of.id,
    digest: digestOfPlan(named),
    ...named,
    cost: drafted.cost,
    explanation: drafted.explanation,
    createdAtMs: of.createdAtMs,
  };
}

function planPlaced(
  all: readonly Target[],
  rates: readonly PlanAction[],
  facts: Facts,
  options: PlanOptions,
): PlanDraft | PlanRefusal {
  const targets = all.filter(({ remove }) => remove !== true);
  const leaving = destroyActions(all.filter(({ remove }) => remove === true));
  const refusal =
    firstOf(targets, ceilingRefusal) ?? firstOf(targets, (t) => stateRefusal(t, facts));
  if (refusal !== undefined) return refusal;
  const assignment = assign(targets, facts, {
    limits: options.limits ?? {},
    deniedSites: options.deniedSites ?? new Set(),
  });
  if (assignment.kind === "nowhere") return nowhere(assignment.target, assignment.refusedBy);
  const { chosen, runnersUp, refusedBy } = assignment;
  const full = uplinkRefusal(
    [...assignment.placed.flatMap(placementActions), ...rates, ...leaving],
    facts,
  );
  if (full !== undefined) return full;
  return draft([...assignment.placed.flatMap(placementActions), ...rates, ...leaving], {
    chosen,
    runnersUp,
    refusedBy,
  });
}

function draft(
  actions: readonly PlanAction[],
  explanation: Plan["explanation"] = { chosen: [], runnersUp: [], refusedBy: {} },
): PlanDraft {
  const ordered = inOrder(actions);
  return {
    kind: "planned",
    actions: ordered,
    cost: totalCost(ordered.map((action) => action.cost)),
    explanation,
  };
}

function firstOf(
  targets: readonly Target[],
  check: (target: Target) => PlanRefusal | undefined,
): PlanRefusal | undefined {
  for (const target of targets) {
    const refusal = check(target);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

/** Above what it was booted able to reach, only a restart helps. */
function ceilingRefusal({ machine, live, wanted, ceiling }: Target): PlanRefusal | undefined {
  const name = machine.spec.name;
  const refuse = (what: string): PlanRefusal => ({
    kind: "refused",
    code: "placement.ceiling",
    message: `${name} was started able to reach ${what}; more needs a new start. Raise its ceiling with allow_restart.`,
    refusedBy: { ceiling: 1 },
  });
  if (wanted.vcpus > live.vcpus && wanted.vcpus > ceiling.vcpus)
    return refuse(`${ceiling.vcpus} vCPUs`);
  if (wanted.memoryMib > live.memoryMib && wanted.memoryMib > ceiling.memoryMib)
    return refuse(`${ceiling.memoryMib} MiB`);
  return undefined;
}

/** A live change needs a running machine on a host that answers. */
function stateRefusal({ machine }: Target, facts: Facts): PlanRefusal | undefined {
  const { state, hostId, siteId } = machine.effective;
  if (hostId === "") return undefined;
  if (state !== "running") {
    return {
      kind: "refused",
      code: "placement.machine_not_running",
      message: `${machine.spec.name} is ${state}; it can change when it runs.`,
      refusedBy: { [state]: 1 },
    };
  }
  const host = facts.sites.flatMap((site) => site.hosts).find(({ id }) => id === hostId);
  if (host?.state === "up") return undefined;
  return {
    kind: "refused",
    code: "placement.site_unavailable",
    message: `The host of ${machine.spec.name} at site ${siteId} does not answer; nothing is changed there until it does.`,
    refusedBy: { degraded: 1 },
  };
}

const reasonWords: Record<string, string> = {
  degraded: "not answering",
  draining: "draining",
  site_not_allowed: "outside its sites",
  owner_denied: "denied by its owner",
  policy_avoids: "ruled out by policy",
  volume_elsewhere: "without its data volumes",
  lacks_cpu: "short of CPU",
  lacks_memory: "short of memory",
  lacks_disk: "short of disk",
  downtime_above_limit: "where the move would keep it still for too long",
};

function nowhere(target: Target, refusedBy: Readonly<Record<string, number>>): PlanRefusal {
  const { machine, wanted, siteId } = target;
  const counts = Object.entries(refusedBy)
    .map(([reason, count]) => `${count} ${reasonWords[reason] ?? reason}`)
    .join(", ");
  const onlyDown = Object.keys(refusedBy).every(
    (reason) => reason === "degraded" || reason === "site_not_allowed",
  );
  const where = siteId === undefined ? "" : ` at site ${siteId}`;
  return {
    kind: "refused",
    code:
      onlyDown && "degraded" in refusedBy ? "placement.site_unavailable" : "placement.no_host_fits",
    message: `No host fits ${machine.spec.name} (${wanted.vcpus} vCPU, ${wanted.cpuPercent} %, ${wanted.memoryMib} MiB)${where}: ${counts === "" ? "there is none" : counts}.`,
    refusedBy,
  };
}

/** The hosts of the machines asked for; of all machines when a network repair names none. */
function hostsToRepair(targets: readonly Target[], facts: Facts): readonly string[] {
  const up = new Set(
    facts.sites.flatMap(({ hosts }) =>
      hosts.filter(({ state }) => state === "up").map(({ id }) => id),
    ),
  );
  if (targets.length === 0) return [...up];
  return targets.map(({ machine }) => machine.effective.hostId).filter((id) => up.has(id));
}
