/** What the decision allows a move to cost, as its steps ask for it. Absent: no bound. */
import type { Mbps, Ms } from "#model/units";
import { defaultRungs, type Rung } from "#operations/ladder";
import type { StepContext } from "#operations/step";

export interface MoveLimits {
  readonly maxDowntimeMs?: Ms | undefined;
  /** What the copy begins with. */
  readonly bandwidthMbps?: Mbps | undefined;
  /** What it may be raised to. */
  readonly maxMbps?: Mbps | undefined;
  /** What may be done about a copy that does not end; default: operations/ladder.ts. */
  readonly rungs?: readonly Rung[] | undefined;
}

export async function limitsOf(context: StepContext): Promise<MoveLimits> {
  const limits = await context.read(async (journal) => {
    const grant = await journal.grants.get(context.operation.grantId);
    if (grant?.decisionId === undefined) return {};
    return (await journal.decisions.get(grant.decisionId))?.limits ?? {};
  });
  const forbidden = limits.forbidRungs ?? [];
  return {
    maxDowntimeMs: limits.maxDowntimeMs,
    bandwidthMbps: limits.maxMbps,
    maxMbps: limits.maxMbps,
    rungs: defaultRungs.filter((rung) => !forbidden.includes(rung)),
  };
}
