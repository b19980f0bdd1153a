/**
 * Whose yes counts for whom. An owner's policy may name its approvers (`approvers` of its data, or of one rule's finding);
 * another person's yes is worth nothing to that owner. People count, not tokens: two of one human are one. Pure.
 */
import type { Approval, ApprovalDemand, Vote } from "#model/consent";
import type { Finding, Request } from "#model/request";

/** More people than this is a mistyped parameter. */
const mostPeople = 5;

/** What a plan lacks to be granted. */
export interface Wanted {
  /** The most that any rule of any owner wants. */
  readonly needs: number;
  readonly by: readonly string[];
  readonly demands: readonly ApprovalDemand[];
}

/** One demand an owner and list of approvers; a rule that does not say how many wants one. */
export function wantedOf(findings: readonly Finding[]): Wanted {
  const demands = new Map<string, ApprovalDemand>();
  for (const finding of findings) {
    if (!wantsApproval(finding)) continue;
    const demand = demandOf(finding);
    const key = JSON.stringify([demand.owner, demand.approvers]);
    const known = demands.get(key);
    if (known === undefined || known.needs < demand.needs) demands.set(key, demand);
  }
  const all = [...demands.keys()].toSorted().flatMap((key) => demands.get(key) ?? []);
  return {
    needs: Math.max(1, ...all.map(({ needs }) => needs)),
    by: [...new Set(all.map(({ owner }) => owner))].toSorted(),
    demands: all,
  };
}

export function wantsApproval({ ok, level, code }: Finding): boolean {
  return !ok && level === "approve" && code !== "policy.exempt";
}

function demandOf({ owner, params }: Finding): ApprovalDemand {
  const { approvals, approvers } = params;
  const needs = typeof approvals === "number" && Number.isInteger(approvals) ? approvals : 1;
  return {
    owner,
    needs: Math.min(mostPeople, Math.max(1, needs)),
    ...(approvers === undefined ? {} : { approvers: namesOf(approvers) }),
  };
}

/** A list that cannot be read names nobody: then nobody's yes counts. */
function namesOf(approvers: unknown): readonly string[] {
  if (!Array.isArray(approvers)) return [];
  return approvers.filter((name): name is string => typeof name === "string").toSorted();
}

/** The human behind a token; a token that names none stands for itself. */
export function personOf({
  by,
  human,
}: {
  readonly by: string;
  readonly human?: string | undefined;
}): string {
  return human ?? by;
}

/** True when the request is this person's own, by whichever of their tokens. */
export function isAsker(
  { subject }: Pick<Request, "subject">,
  vote: Pick<Vote, "by" | "human">,
): boolean {
  return subject.name === vote.by || (subject.human ?? subject.name) === personOf(vote);
}

/** Of a record that was written before owners could name anybody: everybody's yes counts for all. */
export function demandsOf({
  demands,
  wantedBy,
  needs,
}: Pick<Approval, "demands" | "wantedBy" | "needs">): readonly ApprovalDemand[] {
  return demands ?? wantedBy.map((owner) => ({ owner, needs }));
}

export function counts({ approvers }: ApprovalDemand, person: string): boolean {
  return approvers === undefined || approvers.includes(person);
}

/** The people whose yes this owner has, each once. */
export function saidYes(demand: ApprovalDemand, votes: readonly Vote[]): readonly string[] {
  const people = votes.filter(({ verdict }) => verdict === "approve").map(personOf);
  return [...new Set(people)].filter((person) => counts(demand, person)).toSorted();
}

export function isMet(demands: readonly ApprovalDemand[], votes: readonly Vote[]): boolean {
  return demands.every((demand) => saidYes(demand, votes).length >= demand.needs);
}

/** `operator: 2 of ada, ben, tom; site:south: one person`, for who has to ask somebody. */
export function demandText({ owner, needs, approvers }: ApprovalDemand): string {
  const people = needs === 1 ? "one person" : `${needs} people`;
  if (approvers === undefined) return `${owner}: ${people}`;
  return `${owner}: ${needs} of ${approvers.length === 0 ? "nobody" : approvers.join(", ")}`;
}
