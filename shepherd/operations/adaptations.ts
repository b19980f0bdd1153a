/**
 * What an ended operation leaves on record: for each machine and link that it touched, the adaptation that explains how
 * what is in force departs from the baseline, or none. Reads and writes the journal only, in the transaction of the end.
 */
import { canonicalJson } from "#model/canonical";
import type { GroupRecord, LinkRecord, MachineRecord } from "#model/objects";
import type { Operation, Plan } from "#model/plan";
import type { Adaptation, Request } from "#model/request";
import type { AdaptationId, DecisionId, Ms } from "#model/units";
import { changeLink, changeMachine, removeObject, tellChange } from "#operations/records";
import { membersOf } from "#planner/groups";
import type { Ids } from "#ports/clock";
import type { Journal } from "#ports/store";

interface Ended {
  readonly operation: Operation;
  readonly plan: Plan;
  readonly nowMs: Ms;
  readonly ids: Ids;
}

/** What the request and the decision say about a new adaptation. */
interface Terms {
  readonly request: Request;
  readonly decisionId: DecisionId | undefined;
  readonly leaseUntilMs: Ms | undefined;
}

export async function recordAdaptations(journal: Journal, ended: Ended): Promise<void> {
  const { operation, plan } = ended;
  // A repair brings nothing new into force; of a destroyed machine the adaptation outlives it until its lease ends.
  if (operation.kind === "repair" || operation.kind === "destroy") return;
  const request = await journal.requests.get(operation.requestId);
  if (request === undefined) return;
  const terms = await termsOf(journal, ended, request);

  // Also those that the plan leaves as they are: the same sizes for longer, or a baseline that caught up with them.
  for (const machineId of operation.machineIds) {
    const machine = await journal.objects.get("machine", machineId);
    if (machine !== undefined) await recordMachine(journal, machine, ended, terms);
    else await endAll(journal, await journal.adaptations.list({ machineId }), ended);
  }
  const linkIds = new Set([
    ...request.links.map(({ linkId }) => linkId),
    ...plan.actions.flatMap((action) => (action.kind === "set_rate" ? [action.linkId] : [])),
  ]);
  for (const linkId of linkIds) {
    const link = await journal.objects.get("link", linkId);
    if (link !== undefined) await recordLink(journal, link, ended, terms);
    else await endAll(journal, await journal.adaptations.list({ linkId }), ended);
  }
  const { scale } = request;
  const group = scale && (await journal.objects.get("group", scale.groupId));
  if (group !== undefined) await recordGroup(journal, group, ended, terms);
}

/** Of an operation that was undone: what it was to add to a group or topology leaves the journal again. */
export async function forgetUndone(journal: Journal, ended: Ended): Promise<void> {
  const request = await journal.requests.get(ended.operation.requestId);
  if (request === undefined || request.kind === "create") return;
  for (const { id } of request.declares?.machines ?? []) {
    const machine = await journal.objects.get("machine", id);
    const isNowhere = machine?.effective.hostId === "" && machine.effective.state === "failed";
    if (machine === undefined || !isNowhere) continue;
    for (const { networkId, address } of machine.effective.nics) {
      await journal.addresses.remove(networkId, address);
    }
    await removeObject(journal, machine, ended.nowMs);
  }
  for (const { id } of request.declares?.links ?? []) {
    const link = await journal.objects.get("link", id);
    if (link?.effective.rateMbps === 0) await removeObject(journal, link, ended.nowMs);
  }
}

/** The end of a group's destruction takes its record too, when the last of its machines is gone. */
export async function forgetGroup(journal: Journal, ended: Ended): Promise<void> {
  const request = await journal.requests.get(ended.operation.requestId);
  const groupId = request?.kind === "destroy" ? request.scale?.groupId : undefined;
  if (groupId === undefined) return;
  const group = await journal.objects.get("group", groupId);
  if (group === undefined) return;
  const { environmentId } = group.spec;
  const machines = await journal.objects.list("machine", { environmentId });
  if (membersOf(group.spec, machines).length > 0) return;
  for (const adaptation of await adaptationsOf(journal, group)) {
    await journal.adaptations.remove(adaptation.id);
  }
  await removeObject(journal, group, ended.nowMs);
}

async function recordGroup(
  journal: Journal,
  group: GroupRecord,
  ended: Ended,
  terms: Terms,
): Promise<void> {
  const { environmentId } = group.spec;
  const [existing] = await adaptationsOf(journal, group);
  const machines = await journal.objects.list("machine", { environmentId });
  const machineCount = membersOf(group.spec, machines).length;
  const adaptation = nextAdaptation(
    { environmentId, groupId: group.id },
    machineCount === group.spec.machineCount ? undefined : { machineCount },
    existing,
    ended,
    terms,
  );
  if (!sameData(existing, adaptation)) await replace(journal, existing, adaptation, ended);
  const effective = {
    machineCount,
    adaptationId: adaptation?.id,
    leaseUntilMs: adaptation?.leaseUntilMs,
    reason: adaptation?.reason,
  };
  if (sameData(effective, group.effective)) return;
  const changed: GroupRecord = { ...group, effective, version: group.version + 1 };
  await journal.objects.put(changed);
  await tellChange(journal, changed, ended.nowMs);
}

async function adaptationsOf(journal: Journal, group: GroupRecord): Promise<readonly Adaptation[]> {
  const { environmentId } = group.spec;
  const all = await journal.adaptations.list({ environmentId });
  return all.filter(({ groupId }) => groupId === group.id);
}

/** Of a machine or link that a guest had added and that is gone: nobody will declare its successor. */
async function endAll(
  journal: Journal,
  adaptations: readonly Adaptation[],
  ended: Ended,
): Promise<void> {
  for (const adaptation of adaptations) await replace(journal, adaptation, undefined, ended);
}

async function termsOf(journal: Journal, ended: Ended, request: Request): Promise<Terms> {
  const grant = await journal.grants.get(ended.operation.grantId);
  const decisionId = grant?.decisionId;
  const decision = decisionId === undefined ? undefined : await journal.decisions.get(decisionId);
  const leases = [request.leaseMs, decision?.limits.ttlMs].filter((ms) => ms !== undefined);
  const leaseUntilMs = leases.length === 0 ? undefined : ended.nowMs + Math.min(...leases);
  return { request, decisionId, leaseUntilMs };
}

async function recordMachine(
  journal: Journal,
  machine: MachineRecord,
  ended: Ended,
  terms: Terms,
): Promise<void> {
  const [existing] = await journal.adaptations.list({ machineId: machine.id });
  const inherited = await inheritedBy(journal, machine, ended);
  const adaptation = nextAdaptation(
    { environmentId: machine.spec.environmentId, machineId: machine.id },
    departingOf(machine),
    existing ?? inherited,
    ended,
    terms,
  );
  const before = existing ?? inherited;
  if (sameData(before, adaptation) && machine.effective.adaptationId === adaptation?.id) return;
  await replace(journal, before, adaptation, ended);
  await changeMachine(journal, machine.id, ended.nowMs, {
    adaptationId: adaptation?.id,
    leaseUntilMs: adaptation?.leaseUntilMs,
    reason: adaptation?.reason,
  });
}

async function recordLink(
  journal: Journal,
  link: LinkRecord,
  ended: Ended,
  terms: Terms,
): Promise<void> {
  const [existing] = await journal.adaptations.list({ linkId: link.id });
  const { rateMbps } = link.effective;
  const adaptation = nextAdaptation(
    { environmentId: link.spec.environmentId, linkId: link.id },
    rateMbps === link.spec.rateMbps ? undefined : { rateMbps },
    existing,
    ended,
    terms,
  );
  if (sameData(existing, adaptation)) return;
  await replace(journal, existing, adaptation, ended);
  await changeLink(journal, link.id, ended.nowMs, {
    adaptationId: adaptation?.id,
    leaseUntilMs: adaptation?.leaseUntilMs,
  });
}

/** A machine that was declared anew goes on with the adaptation of its predecessor, under the same id. */
async function inheritedBy(
  journal: Journal,
  machine: MachineRecord,
  ended: Ended,
): Promise<Adaptation | undefined> {
  const { startFrom } = machine.spec;
  if (ended.operation.kind !== "create" || startFrom === undefined) return undefined;
  return journal.adaptations.get(startFrom.adaptationId);
}

/** What stands after the operation; undefined when nothing departs, or when nobody granted that it does. */
function nextAdaptation(
  of: Pick<Adaptation, "environmentId" | "machineId" | "linkId" | "groupId">,
  values: Adaptation["values"] | undefined,
  existing: Adaptation | undefined,
  ended: Ended,
  terms: Terms,
): Adaptation | undefined {
  if (values === undefined) return undefined;
  // A member of a group that a partial operation did not reach keeps its own terms.
  const reached = ended.operation.state !== "partial" || !sameData(existing?.values, values);
  const newTerms = ended.operation.kind === "adapt" && terms.decisionId !== undefined && reached;
  if (newTerms) {
    return {
      ...of,
      id: freshId(ended.ids),
      decisionId: terms.decisionId ?? "",
      values,
      leaseUntilMs: leaseAfter(existing, terms),
      reason: terms.request.reason,
      createdAtMs: ended.nowMs,
    };
  }
  return existing && { ...existing, ...of, values };
}

/**
 * A move that names no lease changes where a machine is, not for how long it was granted what it has: it keeps the
 * earlier end, or takes the shorter one that policy sets.
 */
function leaseAfter(existing: Adaptation | undefined, { request, leaseUntilMs }: Terms) {
  const keeps = request.kind === "move" && request.leaseMs === undefined;
  const earlierMs = keeps ? existing?.leaseUntilMs : undefined;
  const ends = [earlierMs, leaseUntilMs].filter((endMs) => endMs !== undefined);
  return ends.length === 0 ? undefined : Math.min(...ends);
}

function freshId(ids: Ids): AdaptationId {
  return ids.next();
}

async function replace(
  journal: Journal,
  before: Adaptation | undefined,
  after: Adaptation | undefined,
  { operation, nowMs }: Ended,
): Promise<void> {
  if (before !== undefined && before.id !== after?.id) {
    await journal.adaptations.remove(before.id);
    await tell(journal, "adaptation.ended", before, { nowMs, operation });
  }
  if (after !== undefined) {
    await journal.adaptations.put(after);
    await tell(journal, "adaptation.started", after, { nowMs, operation });
  }
}

async function tell(
  journal: Journal,
  kind: "adaptation.started" | "adaptation.ended",
  adaptation: Adaptation,
  { nowMs, operation }: { nowMs: Ms; operation: Operation },
): Promise<void> {
  await journal.events.append({
    kind,
    atMs: nowMs,
    environmentId: adaptation.environmentId,
    machineId: adaptation.machineId,
    data: {
      adaptationId: adaptation.id,
      decisionId: adaptation.decisionId,
      operationId: operation.id,
      linkId: adaptation.linkId,
      groupId: adaptation.groupId,
      values: adaptation.values,
      leaseUntilMs: adaptation.leaseUntilMs,
    },
  });
}

/** The attributes in which a machine departs from its baseline. */
export function departingOf(machine: MachineRecord): Adaptation["values"] | undefined {
  const { effective } = machine;
  const { baseline } = machine.spec;
  const values: Adaptation["values"] = {
    ...(effective.vcpus !== baseline.vcpus && { vcpus: effective.vcpus }),
    ...(effective.cpuPercent !== baseline.cpuPercent && { cpuPercent: effective.cpuPercent }),
    ...(effective.memoryMib !== baseline.memoryMib && { memoryMib: effective.memoryMib }),
    ...(effective.siteId !== baseline.siteId && { siteId: effective.siteId }),
  };
  return Object.keys(values).length === 0 ? undefined : values;
}

function sameData(left: unknown, right: unknown): boolean {
  return canonicalJson(left) === canonicalJson(right);
}
