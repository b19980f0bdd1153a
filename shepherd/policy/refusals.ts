/**
 * What stops a request before any policy is asked: objects that are gone, work under way, a hold, a site's recalled
 * consent. Reads facts and the journal; grants nothing. judge.ts makes decisions of it.
 */
import type { Facts } from "#model/facts";
import type { Operation, Plan } from "#model/plan";
import type { Request } from "#model/request";
import type { SiteId } from "#model/units";
import { hasVolume } from "#operations/volumes";
import { onlyLowers } from "#planner/lowering";
import { holdAgainst } from "#policy/hold";
import { sitesOfRequest } from "#policy/owners";
import { recalledSites } from "#policy/recall";
import type { Store } from "#ports/store";

export interface Stopped {
  readonly code: string;
  readonly message: string;
}

/** Kinds that change what machines have beyond their baselines. */
export const adaptingKinds: ReadonlySet<Request["kind"]> = new Set([
  "resize",
  "rate",
  "move",
  "scale",
  "topology",
]);

/** Operations of a request's machines that are in one of these states. */
export async function operationsOn(
  store: Store,
  request: Request,
  states: readonly Operation["state"][],
): Promise<readonly Operation[]> {
  return await store.read(async (journal) => {
    const found: Operation[] = [];
    const volumeIds = [
      ...(request.volumes ?? []),
      ...(request.declares?.volumes?.map(({ id }) => id) ?? []),
    ];
    // A volume is where its machine is: while that moves, nothing else is done to it.
    const holders =
      volumeIds.length === 0
        ? []
        : (await journal.objects.list("machine")).filter((machine) =>
            volumeIds.some((id) => hasVolume(machine, id)),
          );
    const machineIds = new Set([
      ...request.machines.map(({ machineId }) => machineId),
      ...holders.map(({ id }) => id),
    ]);
    for (const machineId of machineIds) {
      found.push(...(await journal.operations.list({ states, machineId })));
    }
    return found;
  });
}
const unfinished = ["pending", "running", "undoing"] as const;

/**
 * Unfinished ones that a request has to wait for. One that only takes away may wait for a silent host for days: a destroy
 * does not wait for it to be admitted, it is carried out after it.
 */
export async function operationsBefore(
  store: Store,
  request: Request,
): Promise<readonly Operation[]> {
  const open = await operationsOn(store, request, unfinished);
  if (request.kind !== "destroy" || open.length === 0) return open;
  return await store.read(async (journal) => {
    const found: Operation[] = [];
    for (const operation of open) {
      const waits = operation.state === "pending";
      const plan = waits ? await journal.plans.get(operation.planId) : undefined;
      if (plan === undefined || !onlyLowers(plan.actions)) found.push(operation);
    }
    return found;
  });
}

/** What no policy can allow: objects that are gone, machines in the middle of something. */
export async function impossibleNow(
  store: Store,
  request: Request,
  facts: Facts,
): Promise<Stopped | undefined> {
  const unknown = [
    ...request.machines
      .map(({ machineId }) => machineId)
      .filter((id) => !isOf(request, facts.machines, id)),
    ...request.links.map(({ linkId }) => linkId).filter((id) => !isOf(request, facts.links, id)),
  ];
  if (unknown.length > 0) {
    const message = "A machine or link it names does not exist in this environment any more.";
    return { code: "request.unknown_object", message };
  }
  const [running] = await operationsBefore(store, request);
  if (running !== undefined) {
    const message = `Operation ${running.id} (${running.kind}) still runs on a machine it names. Ask again when it ended.`;
    return { code: "operation.running", message };
  }
  const [stuck] = request.kind === "destroy" ? [] : await operationsOn(store, request, ["stuck"]);
  if (stuck !== undefined) {
    const message = `Operation ${stuck.id} is stuck on a machine it names; an operator must look first.`;
    return { code: "operation.machine_stuck", message };
  }
  return undefined;
}

/** Adaptation stops; giving back and what the stack declares go on (the stack is judged by the freeze rule). */
export function heldNow(request: Request, facts: Facts): Stopped | undefined {
  if (!adaptingKinds.has(request.kind)) return undefined;
  const hold = holdAgainst(request, sitesOfRequest(request, facts), facts);
  if (hold === undefined) return undefined;
  const until = hold.untilMs === undefined ? "it is lifted" : new Date(hold.untilMs).toISOString();
  return {
    code: "hold.active",
    message: `hold: ${hold.reason} (until ${until})`,
  };
}

/** Nothing comes to a site that recalled its consent, and nothing grows there; leaving and destroying go on. */
export function recalledNow(
  request: Request,
  of: {
    readonly facts: Facts;
    readonly recalled: ReadonlySet<SiteId>;
    readonly plan: Plan | undefined;
  },
): Stopped | undefined {
  const { facts, recalled, plan } = of;
  if (recalled.size === 0 || request.kind === "destroy") return undefined;
  // A change of words alone, such as a wider envelope, takes nothing from anybody.
  if (request.kind === "update" && plan?.actions.length === 0) return undefined;
  const wanted = request.machines.map(({ machineId, siteId }) => {
    const machine = facts.machines.find(({ id }) => id === machineId);
    const stays = request.kind === "move" ? undefined : machine?.effective.siteId;
    return siteId ?? stays;
  });
  const siteId = wanted.find((site) => site !== undefined && recalled.has(site));
  if (siteId === undefined) return undefined;
  const recall = facts.recalls.find((one) => one.siteId === siteId);
  return {
    code: "consent.recalled",
    message: `Site ${siteId} has recalled its consent: ${recall?.reason ?? ""}`,
  };
}

/** Sites whose owners want none of these machines any more. */
export function recalledFor(request: Request, facts: Facts): ReadonlySet<SiteId> {
  const machineIds = request.machines.map(({ machineId }) => machineId);
  return recalledSites(facts.recalls, request.environmentId, machineIds);
}

function isOf(
  request: Request,
  records: readonly { readonly id: string; readonly environmentId: string | undefined }[],
  id: string,
): boolean {
  return records.some(
    (record) => record.id === id && record.environmentId === request.environmentId,
  );
}
