/** What the decision allows a move to cost, as its steps ask for it. Absent: no bound. */
import type { Mbps, Ms } from "#model/units";
import type { StepContext } from "#operations/step";

export interface MoveLimits {
  readonly maxDowntimeMs?: Ms | undefined;
  readonly bandwidthMbps?: Mbps | undefined;
}

export async function limitsOf(context: StepContext): Promise<MoveLimits> {
  const limits = await context.read(async (journal) => {
    const grant = await journal.grants.get(context.operation.grantId);
    if (grant?.decisionId === undefined) return {};
    return (await journal.decisions.get(grant.decisionId))?.limits ?? {};
  });
  return { maxDowntimeMs: limits.maxDowntimeMs, bandwidthMbps: limits.maxMbps };
}
