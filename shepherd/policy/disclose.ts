/**
 * What of a verdict its asker may be told. A guest, and the stack's owner, see the rules that are about their own
 * environment; what rules know of hosts stays with operators, numbers and nearest values included. Pure.
 */
import { Value } from "typebox/value";
import type { Decision, Finding, Request, Subject } from "#model/request";
import { PolicyInput } from "#policy/input";
import { findingOf } from "#policy/obligations";
import { siteOfOwner } from "#policy/owners";
import { inputFor } from "#policy/visible";

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

/** Those who run the shepherd, or have to judge what it decides: they see everything. */
const insiders: ReadonlySet<string> = new Set(["operator", "local-root", "approver", "security"]);

/** All others see what is disclosed to the environment's owner. A guest never sees more, whatever roles it claims. */
export function seesAll({ type, roles }: Pick<Subject, "type" | "roles">): boolean {
  if (type === "shepherd") return true;
  return type !== "guest" && roles.some((role) => insiders.has(role));
}

export function disclosedTo(
  subject: Pick<Subject, "type" | "roles">,
  findings: readonly Finding[],
): readonly Finding[] {
  return seesAll(subject) ? findings : findings.filter(({ disclose }) => disclose === "owner");
}

/**
 * A decision as this reader may see it: findings that are not disclosed to them are left out, and what policy saw is cut
 * to what the environment's owner may know. That something was left out is said, not what.
 */
export function decisionFor(
  subject: Pick<Subject, "type" | "roles">,
  decision: Decision,
): Decision {
  if (seesAll(subject)) return decision;
  const findings = disclosedTo(subject, decision.findings);
  const hidden = failedFindings(decision.findings).find((one) => !findings.includes(one));
  const { avoid: _hosts, ...limits } = decision.limits;
  return {
    ...decision,
    findings: hidden === undefined ? findings : [...findings, capacityOf(hidden)],
    obligations: decision.obligations.filter(
      (demand) => findingOf({ findings }, demand) !== undefined,
    ),
    limits,
    input: ownersView(decision.input),
  };
}

/** What is left of a denial whose reason is not the asker's to know. */
function capacityOf({ owner, level, code }: Finding): Finding {
  const site = siteOfOwner(owner);
  return {
    rule: "capacity",
    id: "capacity",
    level,
    ok: false,
    code,
    msg: site === undefined ? noRoom : `Site ${site} does not take it.`,
    params: {},
    owner,
    disclose: "owner",
  };
}

/** Inputs of an older shape, and what code decided without policy, have nothing that could be shown. */
function ownersView(input: unknown): unknown {
  if (!isInput(input)) return null;
  return inputFor(`owner:${input.environment.owner}`, input);
}

function isInput(input: unknown): input is PolicyInput {
  return Value.Check(PolicyInput, input);
}

const noRoom = "There is no room for it now.";

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
    const [hidden] = failed;
    const said = hidden === undefined ? noRoom : capacityOf(hidden).msg;
    const isRoom = said === noRoom;
    return {
      rule: isRoom ? "capacity" : undefined,
      said,
      message: isRoom ? `capacity: ${said}` : said,
      nearest: {},
    };
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
