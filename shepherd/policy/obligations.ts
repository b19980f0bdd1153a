/**
 * The demands that this shepherd can keep: `notify`, `verify`, `review`. Says which demands it does not know or cannot
 * read (they deny), and journals those that come with a grant, in the grant's transaction. What falls due later
 * obligation-keeper.ts looks after. Works inside the caller's transaction, asks no host.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import type { NewEvent } from "#model/event";
import { Fault } from "#model/fault";
import type { Obligation, ObligationState, OwedObligation } from "#model/obligation";
import type { Operation } from "#model/plan";
import type { Decision, Finding, Request } from "#model/request";
import type { Ms } from "#model/units";
import type { Ids } from "#ports/clock";
import type { Journal } from "#ports/store";

const closed = { additionalProperties: false };
/** A month: whoever wants to look later than that wants a lease. */
const within = Type.Integer({ minimum: 1000, maximum: 30 * 24 * 3_600_000 });
/** `release`: what was granted is given back. `tell`: an event, and it stays. */
const otherwise = Type.Enum(["tell", "release"]);

/** Somebody is told of the grant, at once: the event `obligation.told`, with what the rule found. */
const Notify = Type.Object({ to: Type.String({ minLength: 1, maxLength: 128 }) }, closed);
/** The hosts say within that time that the machines have what was granted. */
const Verify = Type.Object({ within_ms: within, otherwise }, closed);
/** A named person who did not ask looks at it within that time (`drover obligations review`). */
const Review = Type.Object({ within_ms: within, otherwise }, closed);

/** Parameters of each, by id. */
export const obligationParams = { notify: Notify, verify: Verify, review: Review };
const checks = { notify: Compile(Notify), verify: Compile(Verify), review: Compile(Review) };
type Later = Static<typeof Verify>;

/** Why this shepherd cannot promise it; undefined when it can. */
export function cannotKeep({ id, params }: Pick<Obligation, "id" | "params">): string | undefined {
  if (!isKnown(id)) return "which this shepherd does not know";
  const check = checks[id];
  if (check.Check(params)) return undefined;
  const [problem] = [...check.Errors(params)];
  const place = problem?.instancePath.slice(1) ?? "";
  return `with parameters that it cannot read (${place === "" ? "" : `${place} `}${problem?.message ?? "malformed"})`;
}

function isKnown(id: string): id is keyof typeof checks {
  return Object.hasOwn(checks, id);
}

/** What is to be kept after the operation has ended, and by when; undefined for what was kept with the grant. */
export function laterOf({ id, params }: Obligation): Later | undefined {
  return (id === "verify" || id === "review") && checks[id].Check(params) ? params : undefined;
}

/** Journals what a granted decision demands; tells those who are to be told. */
export async function owe(
  journal: Journal,
  of: {
    readonly request: Request;
    readonly decision: Decision;
    readonly operation: Operation;
    readonly ids: Ids;
    readonly nowMs: Ms;
  },
): Promise<void> {
  const { request, decision, operation, ids, nowMs } = of;
  for (const demand of decision.obligations) {
    const waits = laterOf(demand) !== undefined;
    const finding = findingOf(decision, demand);
    const owed: OwedObligation = {
      id: ids.next(),
      demand,
      environmentId: request.environmentId,
      requestId: request.id,
      decisionId: decision.id,
      operationId: operation.id,
      machineIds: operation.machineIds,
      askedBy: request.subject.human ?? request.subject.name,
      disclose: finding?.disclose ?? "operator",
      state: waits ? "waiting" : "kept",
      owedAtMs: nowMs,
      ...(waits ? {} : { endedAtMs: nowMs, outcome: `${String(demand.params["to"])} was told` }),
    };
    await journal.obligations.put(owed);
    if (waits) await journal.events.append(eventOf("obligation.owed", owed, nowMs));
    else {
      const told = { to: demand.params["to"], message: finding?.msg, finding: finding?.params };
      await journal.events.append(eventOf("obligation.told", owed, nowMs, told));
    }
  }
}

/** What the demanding instance said. */
export function findingOf(
  decision: Pick<Decision, "findings">,
  demand: Obligation,
): Finding | undefined {
  return decision.findings.find(
    ({ owner, rule, id }) =>
      owner === demand.owner && rule === demand.rule && id === demand.instance,
  );
}

/** Ends it once; one that is over stays as it is. With `giveBack` what was granted loses its lease now. */
export async function endObligation(
  journal: Journal,
  id: string,
  how: {
    readonly state: Exclude<ObligationState, "waiting">;
    readonly outcome: string;
    readonly atMs: Ms;
    readonly giveBack?: boolean | undefined;
  },
): Promise<OwedObligation | undefined> {
  const owed = await journal.obligations.get(id);
  if (owed === undefined || owed.state !== "waiting") return owed;
  const { state, outcome, atMs } = how;
  const ended: OwedObligation = { ...owed, state, outcome, endedAtMs: atMs };
  await journal.obligations.put(ended);
  await journal.events.append(
    eventOf("obligation.ended", ended, atMs, { state, outcome, released: how.giveBack === true }),
  );
  if (how.giveBack === true) await endLeases(journal, ended, atMs);
  return ended;
}

/** The lease timer gives back what is over, with all its retries; here it only becomes over. */
async function endLeases(journal: Journal, owed: OwedObligation, atMs: Ms): Promise<void> {
  const { environmentId, decisionId } = owed;
  for (const adaptation of await journal.adaptations.list({ environmentId })) {
    if (adaptation.decisionId !== decisionId) continue;
    await journal.adaptations.put({ ...adaptation, leaseUntilMs: atMs });
  }
}

/**
 * A named person has looked at it. Faults `obligation.unknown`, `obligation.ended`, `obligation.own_request`, and
 * `obligation.no_review` for a demand that is not a person's.
 */
export async function review(
  journal: Journal,
  id: string,
  word: { readonly by: string; readonly reason: string; readonly atMs: Ms },
): Promise<OwedObligation> {
  const owed = await journal.obligations.get(id);
  if (owed === undefined) throw new Fault("obligation.unknown", { obligation: id });
  if (owed.demand.id !== "review") {
    throw new Fault("obligation.no_review", { obligation: id, demand: owed.demand.id });
  }
  if (owed.state !== "waiting" || (owed.dueAtMs ?? Infinity) <= word.atMs) {
    const state = owed.state === "waiting" ? "missed" : owed.state;
    throw new Fault("obligation.ended", { obligation: id, state });
  }
  if (owed.askedBy === word.by) {
    throw new Fault("obligation.own_request", { obligation: id, by: word.by });
  }
  const outcome = `reviewed by ${word.by}: ${word.reason}`;
  const ended = await endObligation(journal, id, { state: "kept", outcome, atMs: word.atMs });
  return ended ?? owed;
}

export function eventOf(
  kind: NewEvent["kind"],
  owed: OwedObligation,
  atMs: Ms,
  more: Readonly<Record<string, unknown>> = {},
): NewEvent {
  const { demand, requestId, decisionId, operationId } = owed;
  const [machineId] = owed.machineIds;
  return {
    kind,
    atMs,
    // Without it nobody reads the event who sees one environment only.
    ...(owed.disclose === "owner" ? { environmentId: owed.environmentId } : {}),
    ...(machineId === undefined ? {} : { machineId }),
    data: { obligationId: owed.id, requestId, decisionId, operationId, demand, ...more },
  };
}
