/**
 * One change at the shepherd, as Terraform's apply needs it: send, follow the operation, report what went wrong on the
 * attribute that it concerns. The operation belongs to the shepherd: when the user interrupts, it goes on there.
 */
import { type Method, ProblemError, UnreachableError } from "@drover/shepherd/api/client";
import type { Mutation, OperationView, Problem } from "@drover/shepherd/api/contract";
import type { Report } from "#schema/report";
import type { Work } from "#schema/resource";

/** Longest time that one apply follows an operation; the operation itself is not ended by it. */
const followMs = 60 * 60 * 1000;

/**
 * All but `done` have been reported. refused: nothing was started. failed: the operation ended badly, something may be
 * left. interrupted: it may still go on. `object` is what the shepherd answered before the operation ended.
 */
export type Outcome<View> =
  | { readonly kind: "done"; readonly object: View | null; readonly followed: boolean }
  | { readonly kind: "refused" | "failed" | "interrupted" };

export interface MutationRequest {
  readonly method: Method;
  readonly path: string;
  readonly body?: unknown;
  /** What is done to what, for messages: `create machine "rank-0"`. */
  readonly what: string;
  /** Said when another state already manages the object. */
  readonly importHint?: string;
  /** Attributes that a problem's field may name. */
  readonly attributes: readonly string[];
}

export async function mutate<View>(work: Work, request: MutationRequest): Promise<Outcome<View>> {
  const { what } = request;
  const signal = AbortSignal.any([work.signal, AbortSignal.timeout(followMs)]);
  let operation: OperationView | null = null;
  try {
    const answer = await work.client.call<Mutation<View>>(request.method, request.path, {
      ...(request.body === undefined ? {} : { body: request.body }),
      signal,
    });
    operation = answer.operation;
    if (operation === null) return { kind: "done", object: answer.object, followed: false };
    work.log(`${what}: operation ${operation.id} runs`, { operation: operation.id });
    const ended = await work.client.waitForOperation(operation.id, {
      signal,
      onProgress: ({ id, state, progress }) =>
        work.log(`${what}: ${progress.percent} % ${progress.message}`, { operation: id, state }),
    });
    if (ended.state === "succeeded") return { kind: "done", object: answer.object, followed: true };
    reportOperation(work.report, what, ended);
    return { kind: "failed" };
  } catch (error) {
    if (signal.aborted) {
      reportInterrupted(work.report, { what, operation, byUser: work.signal.aborted });
      return { kind: "interrupted" };
    }
    reportError(work, error, request);
    return { kind: error instanceof ProblemError ? "refused" : "interrupted" };
  }
}

/**
 * Waits until nothing works on a machine any more: what an apply that was interrupted or killed has started goes on, and
 * is joined here. False after it was reported that the wait broke off.
 */
export async function joinOperations(
  work: Work,
  machine: { readonly id: string; readonly what: string },
): Promise<boolean> {
  const { id, what } = machine;
  const signal = AbortSignal.any([work.signal, AbortSignal.timeout(followMs)]);
  let joined: OperationView | null = null;
  try {
    const { items } = await work.client.get<{ items: readonly OperationView[] }>("/v1/operations", {
      query: { machine: id, active: "1" },
      signal,
    });
    for (const operation of items) {
      joined = operation;
      work.log(`${what}: operation ${operation.id} is under way, waiting for it`);
      await work.client.waitForOperation(operation.id, { signal });
    }
    return true;
  } catch (error) {
    if (signal.aborted)
      reportInterrupted(work.report, { what, operation: joined, byUser: work.signal.aborted });
    else reportError(work, error, { what, attributes: [] });
    return false;
  }
}

/** Turns what a call threw into diagnostics: one for each finding that said no, else one. */
export function reportError(
  { report, endpointOrigin }: Pick<Work, "report" | "endpointOrigin">,
  error: unknown,
  context: Pick<MutationRequest, "what" | "attributes" | "importHint">,
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

function reportProblem(
  report: Report,
  problem: Problem,
  context: Pick<MutationRequest, "what" | "attributes" | "importHint">,
): void {
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

function reportOperation(report: Report, what: string, operation: OperationView): void {
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

function reportInterrupted(
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
