/**
 * Takes back what a killed shepherd had written for a declaration that never became an operation: a machine without a
 * host, a link without a grant. Nobody knows their ids, so nobody would ever delete them; the next PUT writes them anew.
 * Runs once at start, before the first call and before repairs bring journaled state to hosts.
 */
import { removeDraft } from "#api/machine-spec";
import { journalChange } from "#api/records";
import type { LinkRecord, MachineRecord } from "#model/objects";
import type { Clock } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

/** How many were taken back. */
export async function removeOrphans(world: {
  readonly store: Store;
  readonly clock: Clock;
}): Promise<number> {
  return await world.store.transaction(async (journal) => {
    const nowMs = world.clock.nowMs();
    let removed = 0;
    for (const machine of await journal.objects.list("machine")) {
      if (!(await isOrphanMachine(journal, machine))) continue;
      await removeDraft(journal, machine, nowMs);
      removed += 1;
    }
    for (const link of await journal.objects.list("link")) {
      if (!(await isOrphanLink(journal, link))) continue;
      await journal.objects.remove("link", link.id);
      await journalChange(journal, link, nowMs, "object.deleted");
      removed += 1;
    }
    return removed;
  });
}

async function isOrphanMachine(journal: Journal, machine: MachineRecord): Promise<boolean> {
  const { hostId, state } = machine.effective;
  if (machine.claimed || hostId !== "" || state !== "creating") return false;
  return (await journal.operations.list({ machineId: machine.id, limit: 1 })).length === 0;
}

/** Nothing of it is in force, and no operation is on its way: it does not name the link, the request that it answers does. */
async function isOrphanLink(journal: Journal, link: LinkRecord): Promise<boolean> {
  if (link.claimed) return false;
  const { environmentId } = link.spec;
  for (const operation of await journal.operations.list({ environmentId })) {
    const request = await journal.requests.get(operation.requestId);
    if (request?.links.some(({ linkId }) => linkId === link.id) === true) return false;
  }
  return true;
}
