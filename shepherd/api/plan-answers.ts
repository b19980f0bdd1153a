/** How a dry decision is told to a plan: verdict, findings with the attribute that each is about, the way and its cost. Pure. */
import type { PlanCheckAnswer, PlanCheckFinding } from "#api/contract";
import type { Fault } from "#model/fault";
import type { Decision, Finding, Request } from "#model/request";
import { decisionFor } from "#policy/disclose";
import type { Preview } from "#policy/gate";

export function nothingToJudge(
  asked: { readonly ways: PlanCheckAnswer["ways"] } | undefined,
): PlanCheckAnswer {
  const isKnown = asked !== undefined;
  return {
    verdict: isKnown ? "granted" : "unknown",
    code: isKnown ? "granted" : "plan.unknown",
    message: isKnown
      ? "Nobody has to decide about this."
      : "Too little is known yet; apply is judged.",
    findings: [],
    ways: asked?.ways ?? [],
    predicted: null,
  };
}

/** A size that only another host can hold is a move too. */
export function withMoves(
  ways: PlanCheckAnswer["ways"],
  { plan }: Preview,
): PlanCheckAnswer["ways"] {
  const moves = plan?.actions.some(({ kind }) => kind === "move_machine") === true;
  if (!moves) return ways;
  return ways.map((one) =>
    ["site", "host", "memory_mib", "cpu_percent", "vcpus"].includes(one.attribute) &&
    one.way === "live"
      ? { ...one, way: "move" }
      : one,
  );
}

const verdicts = { allow: "granted", approve: "approval", deny: "denied" } as const;

export function answerOf(
  given: Preview,
  request: Request,
  ways: PlanCheckAnswer["ways"],
): PlanCheckAnswer {
  const { plan } = given;
  const decisions = given.decisions.map((one) => decisionFor(request.subject, one));
  const decision = decisionFor(request.subject, given.decision);
  const seen = new Set<string>();
  const findings = decisions
    .flatMap((one) => one.findings)
    .filter((finding) => isTold(finding) && !seen.has(textOf(finding)) && seen.add(textOf(finding)))
    .map(findingOf);
  const isSilent = decision.effect === "deny" && !findings.some((one) => one.severity === "error");
  return {
    verdict: verdicts[decision.effect],
    code: decision.code,
    message: decision.message,
    findings: isSilent ? [...findings, ofDecision(decision)] : findings,
    ways,
    predicted:
      plan === undefined
        ? null
        : {
            duration_ms: plan.cost.durationMs,
            bytes: plan.cost.bytes,
            downtime_ms: plan.cost.downtimeMs,
          },
  };
}

function isTold({ ok, level }: Finding): boolean {
  return !ok && (level === "warn" || level === "approve" || level === "deny");
}

function textOf({ rule, id, owner, msg }: Finding): string {
  return JSON.stringify([rule, id, owner, msg]);
}

function findingOf(finding: Finding): PlanCheckFinding {
  const { rule, id, owner, msg, level, fix } = finding;
  return {
    severity: level === "deny" ? "error" : "warning",
    attribute: attributeOf(finding),
    rule,
    id,
    owner,
    message: msg,
    nearest: fix === undefined ? null : { ...fix },
  };
}

const attributes = ["vcpus", "cpu_percent", "memory_mib", "rate_mbps", "site"];

/** By what would have to be another value, else by where the failed number stands. */
function attributeOf({ fix, path }: Finding): string | null {
  const words = [...Object.keys(fix ?? {}), ...(path ?? "").split("/").toReversed()];
  return words.find((word) => attributes.includes(word)) ?? null;
}

function ofDecision({ code, message }: Decision): PlanCheckFinding {
  const [rule = code] = code.split(".");
  return {
    severity: "error",
    attribute: null,
    rule,
    id: code,
    owner: "drover",
    message,
    nearest: null,
  };
}

/** What apply would refuse before anybody decides. */
export function refusedBy(fault: Fault): PlanCheckAnswer {
  const { attribute } = fault.details;
  const finding: PlanCheckFinding = {
    severity: "error",
    attribute: typeof attribute === "string" ? attribute : null,
    rule: fault.code.split(".")[0] ?? fault.code,
    id: fault.code,
    owner: "drover",
    message: `${fault.message}. ${fault.entry.hint}`,
    nearest: null,
  };
  return {
    verdict: "denied",
    code: fault.code,
    message: fault.message,
    findings: [finding],
    ways: [],
    predicted: null,
  };
}
