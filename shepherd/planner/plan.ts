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
  growActions,
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
import { asksForLess } from "#planner/lowering";
import { costOfWaves, inWaves } from "#planner/move-order";
import { latestMs } from "#planner/prediction";
import { roomOf } from "#planner/room";
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
        ...destroyActions(targets, request),
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
      return planPlaced(
        request,
        targets,
        [...rateActions(links), ...growActions(request.declares?.volumes ?? [], facts)],
        facts,
        options,
      );
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
  request: Request,
  all: readonly Target[],
  others: readonly PlanAction[],
  facts: Facts,
  options: PlanOptions,
): PlanDraft | PlanRefusal {
  const targets = all.filter(({ remove }) => remove !== true);
  const leaving = destroyActions(all.filter(({ remove }) => remove === true));
  const refusal =
    firstOf(targets, ceilingRefusal) ??
    firstOf(targets, (t) => stateRefusal(t, request, facts)) ??
    growRefusal(others, facts);
  if (refusal !== undefined) return refusal;
  const assignment = assign(targets, facts, {
    limits: options.limits ?? {},
    deniedSites: options.deniedSites ?? new Set(),
  });
  if (assignment.kind === "nowhere") return nowhere(assignment.target, assignment.refusedBy);
  const { chosen, runnersUp, refusedBy } = assignment;
  const placing = assignment.placed.flatMap(placementActions);
  const full = uplinkRefusal([...placing, ...others, ...leaving], facts);
  if (full !== undefined) return full;
  const moves = inWaves(placing.filter(isMove), facts);
  const staying = placing.filter((action) => !isMove(action));
  const drafted = draft([...moves, ...staying, ...others, ...leaving], {
    chosen,
    runnersUp,
    refusedBy,
  });
  return deadlineRefusal(drafted, request, facts.nowMs) ?? drafted;
}

/** It would begin now; what its band says at the worst has to have ended in time. */
function deadlineRefusal(
  { cost }: PlanDraft,
  { withinMs, receivedAtMs }: Request,
  nowMs: Ms,
): PlanRefusal | undefined {
  if (withinMs === undefined) return undefined;
  const leftMs = receivedAtMs + withinMs - nowMs;
  const neededMs = latestMs(cost);
  if (neededMs <= leftMs) return undefined;
  const text = (ms: Ms) => `${(ms / 1_000).toFixed(1)} s`;
  const fromMs = cost.band?.durationMs[0] ?? cost.durationMs;
  return {
    kind: "refused",
    code: "placement.deadline",
    message: `It would take ${text(cost.durationMs)}, between ${text(fromMs)} and ${text(neededMs)}, and ${text(Math.max(0, leftMs))} are left; nothing was begun.`,
    nearest: { within_s: Math.ceil((neededMs + nowMs - receivedAtMs) / 1_000) },
    refusedBy: { deadline: 1 },
  };
}

function isMove(action: PlanAction): action is Extract<PlanAction, { kind: "move_machine" }> {
  return action.kind === "move_machine";
}

function draft(
  actions: readonly PlanAction[],
  explanation: Plan["explanation"] = { chosen: [], runnersUp: [], refusedBy: {} },
): PlanDraft {
  const ordered = inOrder(actions);
  const moves = ordered.filter(isMove);
  const others = ordered.filter((action) => !isMove(action));
  return {
    kind: "planned",
    actions: ordered,
    cost: totalCost([
      ...(moves.length > 1 ? [costOfWaves(moves)] : moves.map((move) => move.cost)),
      ...others.map((action) => action.cost),
    ]),
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

/** A live change needs a running machine, and a host that answers; an ask for less waits until its host does. */
function stateRefusal(target: Target, request: Request, facts: Facts): PlanRefusal | undefined {
  const { machine } = target;
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
  if (host?.state === "up" || asksForLess(request, target)) return undefined;
  return {
    kind: "refused",
    code: "placement.site_unavailable",
    message: `The host of ${machine.spec.name} at site ${siteId} does not answer; until it does, a machine there can only be asked for less.`,
    refusedBy: { degraded: 1 },
  };
}

/** A volume grows where it lies, or not at all. */
function growRefusal(actions: readonly PlanAction[], facts: Facts): PlanRefusal | undefined {
  const rooms = roomOf(facts);
  for (const action of actions) {
    if (action.kind !== "grow_volume") continue;
    const { volumeId, hostId, fromGib, toGib } = action;
    const freeBytes = rooms.get(hostId)?.free.diskBytes ?? 0;
    const freeGib = Math.max(0, Math.floor(freeBytes / 2 ** 30));
    if (toGib - fromGib <= freeGib) continue;
    const name = facts.volumes.find(({ id }) => id === volumeId)?.spec.name ?? volumeId;
    return {
      kind: "refused",
      code: "placement.no_host_fits",
      message: `Volume ${name} cannot grow from ${fromGib} to ${toGib} GiB: its host has room for ${freeGib} GiB more.`,
      nearest: { size_gib: fromGib + freeGib },
      refusedBy: { lacks_disk: 1 },
    };
  }
  return undefined;
}

const reasonWords: Record<string, string> = {
  not_asked_for: "not the one asked for",
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
