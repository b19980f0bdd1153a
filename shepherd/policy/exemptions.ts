/**
 * Exemptions that people make at run time: one rule instance of one owner does not hold for named environments, with
 * expiry, ticket and a second person's approval. Policy sees those in force in its input, so that replay is exact; a
 * bundle may carry others in its data. Knows no HTTP.
 */
import type { Exemption } from "#model/consent";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import { personOf } from "#policy/approvers";
import type { Clock, Ids } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

/** Longer than this is no exemption but another rule. */
export const longestExemptionMs: Ms = 90 * 24 * 3_600_000;

export function isInForce({ approvedBy, expiresAtMs }: Exemption, nowMs: Ms): boolean {
  return approvedBy !== undefined && nowMs < expiresAtMs;
}

interface World {
  readonly store: Store;
  readonly clock: Clock;
}

/** Not in force before somebody else approves it. Fault `request.invalid`: expiry, ticket and environments are needed. */
export async function proposeExemption(
  world: World & { readonly ids: Ids },
  asked: Pick<
    Exemption,
    "owner" | "rule" | "instance" | "environments" | "expiresAtMs" | "ticket" | "reason"
  > & { readonly by: string; readonly human?: string | undefined },
): Promise<Exemption> {
  const nowMs = world.clock.nowMs();
  const refuse = (where: string, problem: string) =>
    new Fault("request.invalid", { where, attribute: where, problem });
  if (asked.expiresAtMs <= nowMs) throw refuse("expires_at_ms", "is over already");
  if (asked.expiresAtMs - nowMs > longestExemptionMs) {
    throw refuse("expires_at_ms", "90 days is the longest; change the rule's parameters instead");
  }
  if (asked.ticket.trim() === "") throw refuse("ticket", "name where this was agreed");
  if (asked.environments.length === 0) throw refuse("environments", "name at least one");
  const { by, human, ...terms } = asked;
  const exemption: Exemption = {
    ...terms,
    id: world.ids.next(),
    proposedBy: by,
    ...(human === undefined ? {} : { proposedByHuman: human }),
    proposedAtMs: nowMs,
  };
  await world.store.transaction((journal) =>
    change(journal, exemption, { what: "proposed", by, atMs: nowMs }),
  );
  return exemption;
}

/** Faults `exemption.unknown`, `exemption.own_proposal`. */
export async function approveExemption(
  world: World,
  id: string,
  { by, human }: { readonly by: string; readonly human?: string | undefined },
): Promise<Exemption> {
  return await world.store.transaction(async (journal) => {
    const exemption = await mustExist(journal, id);
    const { proposedBy, proposedByHuman } = exemption;
    const proposer = personOf({ by: proposedBy, human: proposedByHuman });
    if (proposedBy === by || proposer === personOf({ by, human })) {
      throw new Fault("exemption.own_proposal", { by, exemption: id });
    }
    if (exemption.approvedBy !== undefined) return exemption;
    const atMs = world.clock.nowMs();
    const approved: Exemption = { ...exemption, approvedBy: by, approvedAtMs: atMs };
    await change(journal, approved, { what: "approved", by, atMs });
    return approved;
  });
}

/** Ends it at once, whether it was in force or not. Fault `exemption.unknown`. */
export async function endExemption(world: World, id: string, by: string): Promise<Exemption> {
  return await world.store.transaction(async (journal) => {
    const exemption = await mustExist(journal, id);
    await journal.exemptions.remove(id);
    await tell(journal, exemption, { what: "ended", by, atMs: world.clock.nowMs() });
    return exemption;
  });
}

async function mustExist(journal: Journal, id: string): Promise<Exemption> {
  const exemption = await journal.exemptions.get(id);
  if (exemption === undefined) throw new Fault("exemption.unknown", { exemption: id });
  return exemption;
}

interface Change {
  readonly what: "proposed" | "approved" | "ended";
  readonly by: string;
  readonly atMs: Ms;
}

async function change(journal: Journal, exemption: Exemption, how: Change): Promise<void> {
  await journal.exemptions.put(exemption);
  await tell(journal, exemption, how);
}

async function tell(journal: Journal, exemption: Exemption, { what, by, atMs }: Change) {
  await journal.events.append({
    kind: "exemption.changed",
    atMs,
    data: { change: what, by, exemption },
  });
}
