/**
 * Addresses that a plan has told and that no machine has yet. Terraform creates machines in any order, so one that takes
 * the lowest free address could take what a later one of the same plan names; announced ones are therefore given last.
 * They are kept in the journal's table of addresses, under a name that is no network's, because at plan time the network
 * may not be there yet. An announcement promises nothing, and is forgotten after a day.
 */
import type { Ms } from "#model/units";
import type { Journal } from "#ports/store";

/** A saved plan is seldom applied later. */
const rememberedMs: Ms = 86_400_000;
/** A plan that names more is worked off in the order in which it comes. */
const maxAnnounced = 4_096;
const nobody = "";

/** Keeps automatic addresses of the environment's machines off these for a day. Equal for a plan that is told twice. */
export async function announceAddresses(
  journal: Journal,
  environment: string,
  of: { readonly addresses: readonly string[]; readonly nowMs: Ms },
): Promise<void> {
  const networkId = listName(environment);
  const live = new Set<string>();
  for (const { address, freeFromMs = 0 } of await journal.addresses.list(networkId)) {
    if (freeFromMs > of.nowMs) live.add(address);
    else await journal.addresses.remove(networkId, address);
  }
  for (const address of of.addresses) {
    if (live.size >= maxAnnounced && !live.has(address)) return;
    live.add(address);
    const freeFromMs = of.nowMs + rememberedMs;
    await journal.addresses.put({ networkId, address, machineId: nobody, freeFromMs });
  }
}

/** What was announced for the environment's machines within a day. */
export async function announcedAddresses(
  journal: Journal,
  environment: string,
  nowMs: Ms,
): Promise<ReadonlySet<string>> {
  const rows = await journal.addresses.list(listName(environment));
  return new Set(
    rows.flatMap(({ address, freeFromMs = 0 }) => (freeFromMs > nowMs ? [address] : [])),
  );
}

/** No network's id holds a blank. */
function listName(environment: string): string {
  return `announced ${environment}`;
}
