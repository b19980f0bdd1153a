/**
 * A decision with everything it was made of, as one value that another machine can decide again: the ask, the facts of
 * each look, what stood in its way, and what was answered. Pure. Secrets never enter it: what an operator's machine
 * starts with (user data) stands in it as its digest, which tells a change as well as the text does.
 */
import { canonicalJson, digestOf } from "#model/canonical";
import type { Approval } from "#model/consent";
import type { Facts } from "#model/facts";
import type { Operation, Plan } from "#model/plan";
import type { Consent, Decision, Finding, Request } from "#model/request";
import type { Digest, Ms } from "#model/units";

export const snapshotFormat = 1;

export interface DecisionSnapshot {
  readonly format: typeof snapshotFormat;
  readonly takenAtMs: Ms;
  readonly request: Request;
  /** One for each time that facts were gathered for this decision: hosts may have been asked again. Without declared objects. */
  readonly looks: readonly Facts[];
  /** Of the machines asked for: what was unfinished or stuck then. */
  readonly operations: readonly Operation[];
  /** Set when people had approved it. */
  readonly approved?: { readonly approval: Approval; readonly plan: Plan } | undefined;
  /** In order: on the request, then on the plan. */
  readonly decisions: readonly Decision[];
  readonly plan: Plan | undefined;
}

export type Recorder = (snapshot: DecisionSnapshot) => void;

/** Which policies a snapshot needs to be decided again. */
export function policiesOf({
  decisions,
}: Pick<DecisionSnapshot, "decisions">): readonly Pick<
  Consent,
  "owner" | "policyDigest" | "dataDigest"
>[] {
  const wanted = new Map(
    decisions
      .flatMap(({ consents }) => consents)
      .filter(({ policyDigest }) => policyDigest !== "")
      .map(({ owner, policyDigest, dataDigest }) => [
        `${owner} ${policyDigest} ${dataDigest}`,
        { owner, policyDigest, dataDigest },
      ]),
  );
  return [...wanted.values()];
}

/**
 * The value without what must not leave the shepherd, wherever it stands: user data, and what stacks patch into a
 * machine's XML. Each is its digest instead.
 */
export function withoutSecretTexts<T>(value: T): T {
  // Rebuilt with the same fields in the same places: its type is the same.
  return hidden(value, false) as T;
}

function hidden(value: unknown, isPatch: boolean): unknown {
  if (Array.isArray(value)) return value.map((item) => hidden(item, isPatch));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const isSecret = key === "userData" || (isPatch && key === "value");
      if (isSecret && typeof item === "string") return [key, `sha256 ${digestOf(item)}`];
      return [key, hidden(item, isPatch || key === "xmlPatches")];
    }),
  );
}

/** How two judgements of the same ask differ, one line each; none: they are the same. */
export function differencesOf(
  recorded: Pick<DecisionSnapshot, "decisions" | "plan" | "request">,
  again: { readonly decisions: readonly Decision[]; readonly plan: Plan | undefined },
): readonly string[] {
  const found: string[] = [];
  const points = Math.max(recorded.decisions.length, again.decisions.length);
  for (let n = 0; n < points; n += 1) {
    const [then, now] = [recorded.decisions[n], again.decisions[n]];
    const point = then?.point ?? now?.point ?? "";
    if (then === undefined || now === undefined) {
      found.push(
        `on the ${point}: ${then === undefined ? "decided now, not then" : "decided then, not now"}`,
      );
      continue;
    }
    for (const [what, left, right] of facesOf(then, now)) {
      if (left !== right) found.push(`on the ${point}, ${what}: then ${left}, now ${right}`);
    }
  }
  const [then, now] = [recorded.plan, again.plan];
  if (then !== undefined && now !== undefined && then.digest !== now.digest) {
    found.push(
      `the plan: then ${inShort(then)} (${then.digest}), now ${inShort(now)} (${now.digest})`,
    );
  } else if ((then === undefined) !== (now === undefined)) {
    found.push(`the plan: ${then === undefined ? "there was none then" : "there is none now"}`);
  }
  return found;
}

/** What must be equal; ids and durations never are. */
function facesOf(then: Decision, now: Decision): readonly (readonly [string, string, string])[] {
  const both = <T>(of: (decision: Decision) => T) => [text(of(then)), text(of(now))] as const;
  return [
    ["effect", ...both(({ effect }) => effect)],
    ["code", ...both(({ code }) => code)],
    ["message", ...both(({ message }) => message)],
    ["limits", ...both(({ limits }) => limits)],
    ["obligations", ...both(({ obligations }) => obligations)],
    ["answers of owners", ...both(({ consents }) => consents.map(answerOf))],
    ["findings", ...both(({ findings }) => digestOfAll(findings))],
    ["what policy saw", ...both(({ input }) => digestOf(input ?? null))],
  ];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : canonicalJson(value);
}

function answerOf({ owner, effect }: Consent): string {
  return `${owner} ${effect}`;
}

function digestOfAll(findings: readonly Finding[]): Digest {
  return digestOf(findings.map((finding) => canonicalJson(finding)).toSorted());
}

function inShort({ actions }: Plan): string {
  return actions.map(({ kind }) => kind).join(", ") || "nothing to do";
}
