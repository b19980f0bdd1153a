/**
 * Who would have been told otherwise: compares a candidate's answers with those that were given, and counts by rule,
 * environment and subject. Pure; replay over history and shadow on live requests both feed it.
 */
import type { Effect, Finding } from "#model/request";
import { combine } from "#policy/combine";
import type { PolicyInput } from "#policy/input";
import { withoutPace } from "#policy/pace";
import type { PolicyAnswer } from "#ports/policy-engine";

/** One question, answered twice by the same owner. */
export interface Comparison {
  readonly input: PolicyInput;
  readonly decisionId: string;
  readonly atMs: number;
  readonly before: Effect;
  /** Findings of this owner only. */
  readonly findingsBefore: readonly Finding[];
  /** What the other owners said: a flip that they would have overruled changes nobody's life. */
  readonly others: readonly Effect[];
  readonly after: PolicyAnswer;
}

/** Counts of one rule, environment or subject, a direction each; `to_deny` is who would newly be refused. */
export interface FlipCounts {
  readonly name: string;
  readonly to_deny: number;
  readonly to_approve: number;
  readonly to_allow: number;
}

export interface Flip {
  readonly decision: string;
  readonly at_ms: number;
  readonly environment: string;
  readonly subject: string;
  readonly kind: string;
  readonly point: string;
  readonly before: Effect;
  readonly after: Effect;
  /** `rule/instance` that tipped it. */
  readonly rules: readonly string[];
  readonly message: string;
  /** The whole decision would have ended otherwise, other owners included. */
  readonly outcome: boolean;
}

export interface FlipReport {
  readonly replayed: number;
  readonly flips: number;
  /** Of these, where all owners together would have decided otherwise. */
  readonly outcomes: number;
  /** Recorded questions that cannot be asked again: their input is of another contract version, or of an older shape. */
  readonly unfit: number;
  /** Of these, how many for which reason. */
  readonly unfit_by: readonly UnfitCount[];
  /** The candidate gave no verdict (time, memory, contradiction); counted as denials too. */
  readonly undecided: number;
  readonly by_rule: readonly FlipCounts[];
  readonly by_environment: readonly FlipCounts[];
  readonly by_subject: readonly FlipCounts[];
  /** The newest ones. */
  readonly examples: readonly Flip[];
}

export interface UnfitCount {
  readonly why: string;
  readonly count: number;
}

/** Counts what cannot be asked again, by reason. */
export class UnfitTally {
  #total = 0;
  readonly #byReason = new Map<string, number>();

  get total(): number {
    return this.#total;
  }

  add(why: string): void {
    this.#total += 1;
    const known = this.#byReason.has(why) || this.#byReason.size < maxReasons;
    const key = known ? why : "(others)";
    this.#byReason.set(key, (this.#byReason.get(key) ?? 0) + 1);
  }

  rows(): readonly UnfitCount[] {
    return [...this.#byReason]
      .map(([why, count]) => ({ why, count }))
      .toSorted((left, right) => right.count - left.count || (left.why < right.why ? -1 : 1));
  }
}

const maxReasons = 20;

/** Why the door refused this answer's input: the first place that does not fit, the same for every row of a list. */
export function unfitReason({ findings }: Pick<PolicyAnswer, "findings">): string | undefined {
  const refused = findings.find(({ code }) => code === "policy.input_invalid");
  if (refused === undefined) return undefined;
  const [first = ""] = refused.msg.split("; ");
  return first.replaceAll(/\.\d+(?=[.:]|$)/g, ".*");
}

const maxExamples = 50;
/** An attacker's subjects must not fill the memory: the rest is counted as one. */
const maxGroups = 200;
const undecidedCodes = new Set([
  "policy.timeout",
  "policy.trap",
  "policy.overloaded",
  "policy.indeterminate",
]);

/** What this owner's answer counts for in the decision, as combine.ts has it. */
export function effectOf(answer: PolicyAnswer, kind: string): Effect {
  const verdict = combine([kind === "destroy" ? withoutPace(answer) : answer]);
  return verdict.consents[0]?.effect ?? "deny";
}

export class FlipTally {
  #replayed = 0;
  #flips = 0;
  #outcomes = 0;
  readonly #unfit = new UnfitTally();
  #undecided = 0;
  readonly #byRule = new Map<string, FlipCounts>();
  readonly #byEnvironment = new Map<string, FlipCounts>();
  readonly #bySubject = new Map<string, FlipCounts>();
  readonly #examples: Flip[] = [];

  get replayed(): number {
    return this.#replayed;
  }

  get flips(): number {
    return this.#flips;
  }

  add(comparison: Comparison): void {
    const { input, before, after, others } = comparison;
    const codes = after.findings.map(({ code }) => code ?? "");
    const unfit = unfitReason(after);
    if (unfit !== undefined) return this.skip(unfit);
    this.#replayed += 1;
    if (codes.some((code) => undecidedCodes.has(code))) this.#undecided += 1;
    const now = effectOf(after, input.request.kind);
    if (now === before) return;
    this.#flips += 1;
    const outcome = together([...others, before]) !== together([...others, now]);
    if (outcome) this.#outcomes += 1;
    const tipped = tippedBy(comparison);
    const subject = `${input.subject.type} ${input.subject.name}`;
    for (const rule of new Set(tipped.map((finding) => finding.rule)))
      count(this.#byRule, rule, now);
    count(this.#byEnvironment, input.environment.name, now);
    count(this.#bySubject, subject, now);
    if (this.#examples.length >= maxExamples) return;
    this.#examples.push({
      decision: comparison.decisionId,
      at_ms: comparison.atMs,
      environment: input.environment.name,
      subject,
      kind: input.request.kind,
      point: input.point,
      before,
      after: now,
      rules: tipped.map(({ rule, id }) => `${rule}/${id}`),
      message: tipped[0]?.msg ?? "",
      outcome,
    });
  }

  /** A question that cannot even be put. */
  skip(why: string): void {
    this.#unfit.add(why);
  }

  report(): FlipReport {
    return {
      replayed: this.#replayed,
      flips: this.#flips,
      outcomes: this.#outcomes,
      unfit: this.#unfit.total,
      unfit_by: this.#unfit.rows(),
      undecided: this.#undecided,
      by_rule: rows(this.#byRule),
      by_environment: rows(this.#byEnvironment),
      by_subject: rows(this.#bySubject),
      examples: [...this.#examples],
    };
  }
}

/** Findings that say otherwise now: those that fail newly, or those that failed and do not any more. */
function tippedBy({ findingsBefore, after }: Comparison): readonly Finding[] {
  const key = ({ rule, id, level }: Finding): string => `${rule}/${id}/${level}`;
  const failing = (findings: readonly Finding[]): readonly Finding[] =>
    findings.filter(
      ({ ok, level, code }) =>
        !ok && code !== "policy.exempt" && (level === "deny" || level === "approve"),
    );
  const [old, now] = [failing(findingsBefore), failing(after.findings)];
  const [oldKeys, nowKeys] = [new Set(old.map(key)), new Set(now.map(key))];
  const fresh = now.filter((finding) => !oldKeys.has(key(finding)));
  return fresh.length > 0 ? fresh : old.filter((finding) => !nowKeys.has(key(finding)));
}

function together(effects: readonly Effect[]): Effect {
  if (effects.includes("deny")) return "deny";
  return effects.includes("approve") ? "approve" : "allow";
}

function count(groups: Map<string, FlipCounts>, name: string, to: Effect): void {
  const key = groups.has(name) || groups.size < maxGroups ? name : "(others)";
  const before = groups.get(key) ?? { name: key, to_deny: 0, to_approve: 0, to_allow: 0 };
  const column = `to_${to}` as const;
  groups.set(key, { ...before, [column]: before[column] + 1 });
}

/** Those it happens to most first. */
function rows(groups: ReadonlyMap<string, FlipCounts>): readonly FlipCounts[] {
  const total = (one: FlipCounts): number => one.to_deny + one.to_approve + one.to_allow;
  return [...groups.values()].toSorted(
    (left, right) => total(right) - total(left) || (left.name < right.name ? -1 : 1),
  );
}
