/**
 * What of a verdict its asker may be told. A guest, and the stack's owner, see the rules that are about their own
 * environment; what rules know of hosts stays with operators, numbers and nearest values included. Pure.
 */
import type { Decision, Finding, Request, Subject } from "#model/request";
import { siteOfOwner } from "#policy/owners";

export interface Denial {
  /** The rule that failed first; undefined when the asker may not know it. */
  readonly rule: string | undefined;
  /** What the rule said, and whose it is. */
  readonly said: string;
  /** All of it in one line. */
  readonly message: string;
  /** Nearest values that every failed rule would let pass, where rules can tell. */
  readonly nearest: Readonly<Record<string, number | string>>;
}

/** Operators, and whoever stands at the shepherd itself, see everything; all others what is disclosed to the environment's owner. */
export function seesAll({ type, roles }: Subject): boolean {
  if (type === "shepherd") return true;
  return type !== "guest" && roles.some((role) => role === "operator" || role === "local-root");
}

export function disclosedTo(subject: Subject, findings: readonly Finding[]): readonly Finding[] {
  return seesAll(subject) ? findings : findings.filter(({ disclose }) => disclose === "owner");
}

/** Findings that made the answer no, the ones with something to say first. */
export function failedFindings(findings: readonly Finding[]): readonly Finding[] {
  return findings.filter(
    ({ ok, level, code }) =>
      !ok && code !== "policy.exempt" && (level === "deny" || level === "approve"),
  );
}

/** The denial of policy as one asker may read it. */
export function explainDenial(
  request: Pick<Request, "subject">,
  denied: Pick<Decision, "findings">,
): Denial {
  const failed = failedFindings(denied.findings);
  const shown = disclosedTo(request.subject, failed);
  const [first] = shown;
  if (first === undefined) {
    const hidden = failed[0];
    const site = hidden === undefined ? undefined : siteOfOwner(hidden.owner);
    const said =
      site === undefined ? "There is no room for it now." : `Site ${site} does not take it.`;
    return { rule: undefined, said, message: said, nearest: {} };
  }
  const nearest = nearestOf(shown);
  const site = siteOfOwner(first.owner);
  const said = site === undefined ? first.msg : `site ${site} says: ${first.msg}`;
  const hint = Object.entries(nearest)
    .map(([attribute, value]) => `${attribute} ${value}`)
    .join(", ");
  const message = `${first.rule}: ${said}${hint === "" ? "" : `. Nearest allowed: ${hint}`}`;
  return { rule: first.rule, said, message, nearest };
}

/** The strictest of all fixes: numbers by the smallest, waits by the longest, texts by the first. */
function nearestOf(failed: readonly Finding[]): Record<string, number | string> {
  const nearest: Record<string, number | string> = {};
  for (const { fix } of failed) {
    for (const [attribute, value] of Object.entries(fix ?? {})) {
      const other = nearest[attribute];
      if (typeof value === "number" && typeof other === "number") {
        nearest[attribute] =
          attribute === "retry_after_ms" ? Math.max(value, other) : Math.min(value, other);
      } else {
        nearest[attribute] ??= value;
      }
    }
  }
  return nearest;
}
