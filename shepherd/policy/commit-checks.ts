/**
 * What the gate asks before it writes: which kind of operation a grant becomes, and whether the world that was judged is
 * still the one in the journal. Reads only.
 */
import type { Approval } from "#model/consent";
import type { Facts } from "#model/facts";
import type { OperationKind } from "#model/plan";
import type { Grant, Request } from "#model/request";
import { specDigestsOf } from "#policy/approvals";
import type { Journal } from "#ports/store";

/** What a request becomes when policy grants it. */
const operationKinds: Record<Request["kind"], OperationKind> = {
  create: "create",
  update: "update",
  destroy: "destroy",
  resize: "adapt",
  rate: "adapt",
  move: "adapt",
  scale: "adapt",
  topology: "adapt",
  release: "release",
  repair: "repair",
};

/**
 * Giving back needs no consent, so it cannot bring a longer lease: it keeps the terms of what is left (the operation is a
 * release), unless it asks for a shorter one.
 */
export function operationKindOf(request: Request, grant: Grant, facts: Facts): OperationKind {
  if (grant.kind === "decision" || grant.kind === "break_glass") {
    return operationKinds[request.kind];
  }
  if (request.kind === "destroy") return "destroy";
  if (grant.kind === "repair" || request.kind === "release") return grant.kind;
  const { leaseMs } = request;
  if (leaseMs === undefined) return grant.kind;
  const asked = new Set<string>([
    ...request.machines.map(({ machineId }) => machineId),
    ...request.links.map(({ linkId }) => linkId),
  ]);
  const shortens = [...facts.machines, ...facts.links]
    .filter(({ id }) => asked.has(id))
    .every(
      ({ effective: { leaseUntilMs } }) => facts.nowMs + leaseMs <= (leaseUntilMs ?? Infinity),
    );
  return shortens ? "adapt" : grant.kind;
}

/** True when what the ask was made on is still what is declared. */
export function isDeclaredAsThen(approval: Approval, request: Request, facts: Facts): boolean {
  const now = specDigestsOf(request, facts);
  return Object.entries(approval.specDigests).every(([id, digest]) => now[id] === digest);
}

/** True when the machines and links asked for are as the facts said; an operation's step or another write may have come between. */
export async function isStill(journal: Journal, request: Request, facts: Facts): Promise<boolean> {
  for (const { machineId } of request.machines) {
    const now = await journal.objects.get("machine", machineId);
    const then = facts.machines.find(({ id }) => id === machineId);
    // What the request itself creates stands in the facts with version 0, and not in the journal yet.
    if ((now?.version ?? 0) !== (then?.version ?? 0)) return false;
  }
  for (const { linkId } of request.links) {
    const now = await journal.objects.get("link", linkId);
    const then = facts.links.find(({ id }) => id === linkId);
    if ((now?.version ?? 0) !== (then?.version ?? 0)) return false;
  }
  return true;
}
