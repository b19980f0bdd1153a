/**
 * What the shepherd says no to, as diagnostics: one for each finding, at the attribute that it concerns, with the rule,
 * the nearest value that would pass, the decision to look into, and the code.
 */
import { ProblemError, UnreachableError } from "@drover/shepherd/api/client";
import type { ApprovalView, OperationView, Problem } from "@drover/shepherd/api/contract";
import type { Report } from "#schema/report";
import type { Work } from "#schema/resource";

/** What a report is about. */
export interface Failing {
  /** What is done to what, after "Could not": `create machine "rank-0"`. */
  readonly what: string;
  /** Attributes that a problem's field may name. */
  readonly attributes: readonly string[];
  /** Said when another state already manages the object. */
  readonly importHint?: string;
}

/** Turns what a call threw into diagnostics: one for each finding that said no, else one. */
export function reportError(
  { report, endpointOrigin }: Pick<Work, "report" | "endpointOrigin">,
  error: unknown,
  context: Failing,
): void {
  if (error instanceof ProblemError) reportProblem(report, error.problem, context);
  else if (error instanceof UnreachableError)
    report.error(
      "The shepherd is unreachable",
      `Could not ${context.what}. ${error.message}. Looked there because ${endpointOrigin}. ` +
        "Start the shepherd, or name another endpoint. [shepherd.unreachable]",
    );
  else throw error;
}

function reportProblem(report: Report, problem: Problem, context: Failing): void {
  const { what, attributes, importHint } = context;
  const explain =
    problem.decision === undefined
      ? ""
      : `\nDecision ${problem.decision}: \`drover explain ${problem.decision}\` tells the whole story.`;
  const next =
    problem.code === "conflict.exists" && importHint !== undefined ? importHint : problem.hint;
  const refusals = (problem.findings ?? []).filter(
    (finding) => !finding.ok && (finding.level === "deny" || finding.level === "approve"),
  );
  for (const finding of refusals) {
    const fixes = Object.entries(finding.fix ?? {});
    const attribute = [...fixes.map(([name]) => name), ...(finding.path?.split(".") ?? [])].find(
      (name) => attributes.includes(name),
    );
    const nearest = fixes.map(([name, value]) => `${name} = ${value}`).join(", ");
    (attribute === undefined ? report : report.at(attribute)).error(
      `Policy does not allow this: ${finding.rule} (${finding.owner})`,
      `Could not ${what}. ${finding.msg.replace(/\.$/, "")}.${nearest === "" ? "" : ` Nearest allowed: ${nearest}.`}` +
        `${explain} [${problem.code}]`,
    );
  }
  if (refusals.length > 0) return;
  const field = ["attribute", "field"]
    .map((name) => problem.details[name])
    .find((name): name is string => typeof name === "string" && attributes.includes(name));
  (field === undefined ? report : report.at(field)).error(
    problem.title,
    `Could not ${what}.${problem.detail === problem.title ? "" : ` ${problem.detail}`}\n${next} [${problem.code}]${explain}`,
  );
}

/** An operation that ended otherwise than asked. */
export function reportOperation(report: Report, what: string, operation: OperationView): void {
  const { fault, state, id } = operation;
  const causes: string[] = [];
  for (let at = fault; at !== null && at !== undefined; at = at.cause ?? null)
    causes.push(at.message);
  const why = causes.length === 0 ? "The shepherd gave no reason." : `${causes.join(": ")}.`;
  const ending = {
    cancelled: "was cancelled",
    partial: "was done in part",
    stuck: "is stuck and needs a look",
  }[state as string];
  report.error(
    fault?.message ?? `The operation ${ending ?? "failed"}`,
    `Could not ${what}: operation ${id} ${ending ?? "failed"}. ${why}` +
      `\n${fault?.hint ?? `\`drover explain ${id}\` tells what was done.`} [${fault?.code ?? `operation.${state}`}]`,
  );
}

/** The wait broke off; the work may go on. */
export function reportInterrupted(
  report: Report,
  interruption: { what: string; operation: OperationView | null; byUser: boolean },
): void {
  const { what, operation, byUser } = interruption;
  const where =
    operation === null
      ? "The shepherd may have started it already."
      : `Operation ${operation.id} goes on at the shepherd (${operation.progress.percent} % when last seen).`;
  report.error(
    byUser ? "Interrupted" : "Not finished in time",
    `Stopped waiting to ${what}. ${where} Apply again: it continues there, nothing is started twice. [provider.interrupted]`,
  );
}

/** Asked and not granted yet, or granted no more: what to do is up to people. */
export function reportApproval(report: Report, what: string, approval: ApprovalView): void {
  const { request, state, message, wanted_by, needs } = approval;
  const people = `${needs === 1 ? "a person" : `${needs} people`} for ${wanted_by.join(", ")}`;
  if (state === "pending")
    report.error(
      `Waits for approval: request ${request}`,
      `Could not ${what} yet: ${people} must agree, until ${new Date(approval.expires_at_ms).toISOString()}. ${message}\n` +
        `An approver decides with \`drover approve ${request} --reason …\`; the request stays, and the next apply attaches to it. [approval.pending]`,
    );
  else
    report.error(
      `The request was ${state}`,
      `Could not ${what}: request ${request} needed ${people}. ${message}\nApply again to ask anew. [approval.${state}]`,
    );
}
