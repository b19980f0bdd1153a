/**
 * Joins the answers of all owners whose consent a request or a plan needs: any denial wins, then approval; limits meet,
 * obligations add up, and an obligation that we cannot meet denies.
 * Pure; within one bundle Rego combines (policies/main), across owners nobody's Rego has a say over another's.
 */
import { canonicalJson } from "#model/canonical";
import type { Obligation } from "#model/obligation";
import type { Consent, Effect, Finding, Limits } from "#model/request";
import { cannotKeep } from "#policy/obligations";
import type { PolicyAnswer } from "#ports/policy-engine";

export interface Verdict {
  readonly effect: Effect;
  /** `granted`, `policy.approval_needed`, or the first denial's code. */
  readonly code: string;
  /** Findings of all owners, denials first. */
  readonly findings: readonly Finding[];
  readonly obligations: readonly Obligation[];
  readonly limits: Limits;
  readonly consents: readonly Consent[];
}

/** No answers deny: a question that nobody was asked has no consent. */
export function combine(answers: readonly PolicyAnswer[]): Verdict {
  // A policy that demands more than we can promise is denied, not half obeyed.
  const unsupported = answers.flatMap((answer) =>
    answer.obligations.flatMap((obligation) => {
      const problem = cannotKeep(obligation);
      return problem === undefined ? [] : [unsupportedFinding(answer.owner, obligation, problem)];
    }),
  );
  const findings = [
    ...(answers.length === 0 ? [nobodyAsked] : []),
    ...unsupported,
    ...answers.flatMap((answer) => answer.findings),
  ].toSorted((left, right) => rank(left) - rank(right));
  const effect: Effect =
    unsupported.length > 0 ? "deny" : combineEffects(answers.map((answer) => answer.effect));
  return {
    effect,
    code: codeOf(effect, findings),
    findings,
    obligations: union(
      answers.flatMap(({ owner, obligations }) => obligations.map((one) => ({ ...one, owner }))),
    ),
    limits: meet(answers.map((answer) => answer.limits)),
    consents: answers.map((answer) => ({
      owner: answer.owner,
      effect: unsupported.some((finding) => finding.owner === answer.owner)
        ? "deny"
        : answer.effect,
      policyDigest: answer.policyDigest,
      dataDigest: answer.dataDigest,
      durationMs: answer.durationMs,
    })),
  };
}

/** The strictest: any denial wins, then approval; nobody's word is a denial. */
export function combineEffects(effects: readonly Effect[]): Effect {
  if (effects.length === 0 || effects.includes("deny")) return "deny";
  return effects.includes("approve") ? "approve" : "allow";
}

/** The strictest of each limit; an owner who sets none does not care. */
export function meet(limits: readonly Limits[]): Limits {
  const smallest = (of: (limit: Limits) => number | undefined): number | undefined => {
    const set = limits.map(of).filter((value) => value !== undefined);
    return set.length === 0 ? undefined : Math.min(...set);
  };
  const avoid = eachOnce(limits.flatMap((limit) => limit.avoid ?? []));
  const apart = eachOnce(limits.flatMap((limit) => limit.apart ?? []));
  const together = eachOnce(limits.flatMap((limit) => limit.together ?? []));
  const forbidRungs = eachOnce(limits.flatMap((limit) => limit.forbidRungs ?? []));
  return {
    maxDowntimeMs: smallest((limit) => limit.maxDowntimeMs),
    maxMbps: smallest((limit) => limit.maxMbps),
    ttlMs: smallest((limit) => limit.ttlMs),
    ...(avoid === undefined ? {} : { avoid }),
    ...(apart === undefined ? {} : { apart }),
    ...(together === undefined ? {} : { together }),
    ...(forbidRungs === undefined ? {} : { forbidRungs }),
  };
}

/** What one owner rules out is ruled out: each once, in one order; absent when nobody rules out anything. */
function eachOnce<Item>(items: readonly Item[]): readonly Item[] | undefined {
  const ruled = new Map(items.map((item) => [canonicalJson(item), item]));
  if (ruled.size === 0) return undefined;
  return [...ruled.keys()].toSorted().flatMap((key) => ruled.get(key) ?? []);
}

function blocks(finding: Finding, effect: Effect): boolean {
  if (finding.ok || finding.code === "policy.exempt") return false;
  return effect === "approve" ? finding.level === "approve" : denies(finding);
}

function denies(finding: Finding): boolean {
  return (
    finding.level === "deny" ||
    (finding.level === "approve" && finding.code === "policy.indeterminate")
  );
}

/** Denials first, then what waits for approval, warnings, audits, and what passed. */
function rank(finding: Finding): number {
  if (finding.ok || finding.code === "policy.exempt") return 4;
  if (denies(finding)) return 0;
  return finding.level === "approve" ? 1 : finding.level === "warn" ? 2 : 3;
}

function codeOf(effect: Effect, findings: readonly Finding[]): string {
  if (effect === "allow") return "granted";
  if (effect === "approve") return "policy.approval_needed";
  return findings.find((finding) => blocks(finding, "deny"))?.code ?? "policy.denied";
}

/** All that anybody demands, each once, in one order. */
export function union(obligations: readonly Obligation[]): readonly Obligation[] {
  const byContent = new Map(obligations.map((item) => [canonicalJson(item), item]));
  return [...byContent.keys()].toSorted().flatMap((key) => byContent.get(key) ?? []);
}

function unsupportedFinding(owner: string, obligation: Obligation, problem: string): Finding {
  return {
    rule: "obligation",
    id: obligation.id,
    code: "obligation.unsupported",
    level: "deny",
    ok: false,
    msg: `${owner} demands ${obligation.id}, ${problem}`,
    params: obligation.params,
    owner,
    disclose: "operator",
  };
}

const nobodyAsked: Finding = {
  rule: "policy",
  id: "policy.absent",
  code: "policy.absent",
  level: "deny",
  ok: false,
  msg: "no policy was asked",
  params: {},
  owner: "shepherd",
  disclose: "operator",
};
