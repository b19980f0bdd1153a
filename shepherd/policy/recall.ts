/**
 * A site owner's recalled consent as facts and as records: which sites a request may not use any more, and how a recall
 * is placed and lifted. recalls.ts moves machines out; nobody is ever killed for one. Knows no HTTP.
 */
import type { Recall } from "#model/consent";
import type { Facts } from "#model/facts";
import { Fault } from "#model/fault";
import type { MachineId, Ms, SiteId } from "#model/units";
import type { Clock, Ids } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

/** Recalls that speak of a machine; of the environment's others too when none is named. */
export function recallsOf(
  recalls: readonly Recall[],
  of: { readonly environmentId: string; readonly machineId?: MachineId | undefined },
): readonly Recall[] {
  return recalls.filter(
    ({ environmentId, machineId }) =>
      environmentId === of.environmentId && (machineId === undefined || machineId === of.machineId),
  );
}

/** Sites where none of these machines may be put any more. */
export function recalledSites(
  recalls: readonly Recall[],
  environmentId: string,
  machineIds: readonly MachineId[],
): ReadonlySet<SiteId> {
  return new Set(
    machineIds
      .flatMap((machineId) => recallsOf(recalls, { environmentId, machineId }))
      .map(({ siteId }) => siteId),
  );
}

/** Machines that a recall wants gone and that are still there. */
export function leftAt(recall: Recall, facts: Pick<Facts, "machines">): readonly MachineId[] {
  return facts.machines
    .filter(
      ({ id, environmentId, effective }) =>
        environmentId === recall.environmentId &&
        (recall.machineId === undefined || recall.machineId === id) &&
        effective.hostId !== "" &&
        effective.siteId === recall.siteId,
    )
    .map(({ id }) => id);
}

interface World {
  readonly store: Store;
  readonly clock: Clock;
}

/** Durable when it resolves. A second recall of the same thing replaces the first. */
export async function placeRecall(
  world: World & { readonly ids: Ids },
  asked: Pick<Recall, "siteId" | "environmentId" | "machineId" | "by" | "reason" | "deadlineMs">,
): Promise<Recall> {
  const sinceMs = world.clock.nowMs();
  return await world.store.transaction(async (journal) => {
    const same = (await journal.recalls.list()).find(
      (other) =>
        other.siteId === asked.siteId &&
        other.environmentId === asked.environmentId &&
        other.machineId === asked.machineId,
    );
    const recall: Recall = { ...asked, id: same?.id ?? world.ids.next(), sinceMs };
    await journal.recalls.put(recall);
    await tell(journal, recall, {
      change: same === undefined ? "placed" : "changed",
      by: asked.by,
      atMs: sinceMs,
    });
    return recall;
  });
}

/** The site takes machines of it again. Fault `recall.unknown`. */
export async function liftRecall(world: World, id: string, by: string): Promise<Recall> {
  return await world.store.transaction(async (journal) => {
    const recall = await journal.recalls.get(id);
    if (recall === undefined) throw new Fault("recall.unknown", { recall: id });
    await journal.recalls.remove(id);
    await tell(journal, recall, { change: "lifted", by, atMs: world.clock.nowMs() });
    return recall;
  });
}

async function tell(
  journal: Journal,
  recall: Recall,
  how: { readonly change: "placed" | "changed" | "lifted"; readonly by: string; readonly atMs: Ms },
): Promise<void> {
  await journal.events.append({
    kind: "recall.changed",
    atMs: how.atMs,
    environmentId: recall.environmentId,
    ...(recall.machineId === undefined ? {} : { machineId: recall.machineId }),
    data: { change: how.change, by: how.by, recall },
  });
}
