/**
 * Has this been asked before? The journaled answer of a request, whether two are the same ask, and whether one that waits
 * for people still waits for the same thing. Works inside the caller's transaction; decides nothing.
 */
import { digestOf } from "#model/canonical";
import type { Approval } from "#model/consent";
import type { Request } from "#model/request";
import type { Ms } from "#model/units";
import { end } from "#policy/approvals";
import type { GateAnswer } from "#policy/gate";
import type { Journal } from "#ports/store";

/** The store looks by name; a guest must never get the answer of an operator or of another machine. */
export function sameAsker(earlier: Request, request: Request): boolean {
  return (
    earlier.subject.type === request.subject.type &&
    earlier.subject.machineId === request.subject.machineId
  );
}

/** The asker's own words: not what intake looked up for them, because a repeated release finds other links raised. */
export function askDigest(request: Request): string {
  const { kind, environmentId, machines, links, group, leaseMs, reason, words, declares } = request;
  if (words !== undefined) return digestOf({ kind, environmentId, group, leaseMs, reason, words });
  const [first] = machines;
  const { machineId: _, ...wanted } = first ?? { machineId: "" };
  const created = declares?.machines?.length === 1 ? declares.machines[0] : undefined;
  if (created !== undefined && kind === "create") {
    return digestOf({ kind, environmentId, name: created.spec.name, wanted, leaseMs, reason });
  }
  return digestOf({
    kind,
    environmentId,
    machines: group === undefined ? machines : wanted,
    links: kind === "release" ? [] : links,
    group,
    leaseMs,
    reason,
  });
}

/** The journaled answer of a request; undefined when the shepherd died before it decided. */
export async function answerOf(
  journal: Journal,
  request: Request,
): Promise<GateAnswer | undefined> {
  const decision = (await journal.decisions.ofRequest(request.id)).at(-1);
  if (decision === undefined) return undefined;
  const operation = (await journal.operations.list({ requestId: request.id })).at(-1);
  const approval = await journal.approvals.get(request.id);
  const planId = operation?.planId ?? approval?.planId;
  const plan = planId === undefined ? undefined : await journal.plans.get(planId);
  return { decision, plan, operation, approval };
}

/** False when its time is over, or when what it is about was declared anew: then it is another ask with the same words. */
export async function stillWaits(
  journal: Journal,
  approval: Approval,
  nowMs: Ms,
): Promise<boolean> {
  if (approval.expiresAtMs <= nowMs) return false;
  for (const [id, digest] of Object.entries(approval.specDigests)) {
    const record =
      (await journal.objects.get("machine", id)) ??
      (await journal.objects.get("link", id)) ??
      (await journal.objects.get("group", id));
    if (record !== undefined && digestOf(record.spec) === digest) continue;
    const outcome = "what it is about was declared anew meanwhile";
    await end(journal, approval, { state: "withdrawn", outcome, atMs: nowMs });
    return false;
  }
  return true;
}
