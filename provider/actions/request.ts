/**
 * What the actions that ask for a change have in common: the same request as a guest's or an operator's, judged at plan
 * without doing it, then made, with its progress shown while it runs. Knows no method's parameters.
 */

import { path } from "@drover/shepherd/api/client";
import type { OperationView, RequestAnswer, RequestBody } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import type { Report } from "#schema/report";
import type { Work } from "#schema/resource";
import { duration, parseDuration } from "#schema/timeouts";
import {
  reportApproval,
  reportError,
  reportInterrupted,
  reportOperation,
} from "../resources/problems.ts";
import { progressTeller } from "../resources/progress.ts";

/** After an interrupt: how long an operation may take to be cancelled or to turn out to be finished. */
const cancelMs = 60_000;

export const environmentAttribute = {
  type: "string",
  required: true,
  description: "Name or id of the environment.",
} as const;

/** What every request may say of itself. */
export const termsAttributes = attributes({
  lease: {
    type: "string",
    optional: true,
    description: "How long it is wanted, `1h30m`; then it is released. Absent: until released.",
    validators: [duration],
  },
  reason: { type: "string", optional: true, description: "Why, for those who look at it later." },
});

export function termsOf(config: { readonly lease: string | null; readonly reason: string | null }) {
  const leaseMs = parseDuration(config.lease ?? "");
  return {
    ...(leaseMs === undefined ? {} : { lease_s: Math.ceil(leaseMs / 1000) }),
    ...(config.reason === null ? {} : { reason: config.reason }),
  };
}

/** What is asked of whom, after "Could not": `move rank-0 of ring to south`. */
export interface Asked {
  readonly what: string;
  readonly attributes: readonly string[];
  readonly body: RequestBody;
}

/** Judges it dry; what would be refused, and what needs people, is reported. */
export async function foreseeRequest(work: Work, asked: Asked): Promise<void> {
  try {
    const answer = await send(work, asked, { dry_run: 1 });
    if (answer.verdict === "denied") reportDenied(work.report, asked, answer);
    else if (answer.verdict === "pending")
      work.report.warning(
        "This waits for approval when it is invoked",
        `To ${asked.what}: ${answer.message}`,
      );
  } catch (error) {
    reportError(work, error, asked);
  }
}

/** Asks, waits for people where they must agree, follows what was started, and reports how it ended otherwise. */
export async function makeRequest(
  work: Work,
  asked: Asked,
  progress: (message: string) => void,
): Promise<void> {
  const { signal, client, report } = work;
  const { what } = asked;
  let operation: string | null = null;
  try {
    const answer = await send(work, asked, {});
    if (answer.verdict === "denied") return reportDenied(report, asked, answer);
    operation = answer.operation;
    if (answer.verdict === "pending" && operation === null) {
      progress(`request ${answer.request} waits for approval: ${answer.message}`);
      const approval = await client.waitForApproval(answer.request, { signal });
      if (approval.state !== "approved") return reportApproval(report, what, approval);
      operation = approval.operation;
    }
    progress(`decision ${answer.decision}: ${answer.message}`);
    if (operation === null) return;
    const tell = progressTeller({ log: (line) => progress(line) }, what);
    const ended: OperationView = await client.waitForOperation(operation, {
      signal,
      onProgress: tell,
    });
    if (ended.state !== "succeeded") reportOperation(report, what, ended);
  } catch (error) {
    if (signal.aborted) await breakOff(work, { what, operation }, progress);
    else reportError(work, error, asked);
  }
}

/** What was started is asked to cancel, and what it reached is told: the machine is as it was, or where it was to be. */
async function breakOff(
  { client, report }: Work,
  { what, operation }: { readonly what: string; readonly operation: string | null },
  progress: (message: string) => void,
): Promise<void> {
  if (operation === null) return reportInterrupted(report, { what, operation: null, byUser: true });
  const signal = AbortSignal.timeout(cancelMs);
  try {
    await client.call("POST", path`/v1/operations/${operation}/cancel`, { signal });
    progress(`operation ${operation} was asked to cancel`);
    const ended = await client.waitForOperation(operation, { signal });
    if (ended.state === "succeeded") return progress("it was done before it could be cancelled");
    reportOperation(report, what, ended);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report.error(
      "Interrupted",
      `Stopped waiting to ${what}; operation ${operation} could not be cancelled (${why}) and goes on. [provider.interrupted]`,
    );
  }
}

async function send(work: Work, { body }: Asked, query: { dry_run?: number }) {
  const { client, signal } = work;
  return await client.call<RequestAnswer>("POST", path`/v1/requests`, { body, query, signal });
}

function reportDenied(report: Report, { what, attributes: names }: Asked, answer: RequestAnswer) {
  const refusals = answer.findings.filter(({ ok, level }) => !ok && level === "deny");
  const nearest = refusals.flatMap(({ fix }) => Object.entries(fix ?? {}));
  const name = nearest.map(([key]) => key).find((key) => names.includes(key));
  const values = nearest.map(([key, value]) => `${key} = ${value}`).join(", ");
  (name === undefined ? report : report.at(name)).error(
    `Policy does not allow this${refusals[0] === undefined ? "" : `: ${refusals[0].rule} (${refusals[0].owner})`}`,
    `Could not ${what}. ${answer.message.replace(/\.$/, "")}.${values === "" ? "" : ` Nearest allowed: ${values}.`}` +
      `\nDecision ${answer.decision}: \`drover explain ${answer.decision}\` tells the whole story. [${answer.code}]`,
  );
}
