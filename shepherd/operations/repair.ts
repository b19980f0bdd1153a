/** Brings hosts' networks back to the journal. Nothing to undo: what the journal says was granted before. */
import type { PlanAction } from "#model/plan";
import { applyNetworks, networksFit } from "#operations/networks";
import type { Step } from "#operations/step";

const repairBudgetMs = 60_000;

export function repairNetworkSteps(
  action: Extract<PlanAction, { kind: "apply_network" }>,
): readonly Step[] {
  return action.hostIds.map((hostId) => ({
    name: `network of ${hostId}`,
    budgetMs: repairBudgetMs,
    weightMs: 300,
    undoNeedless: "the network is what the journal says, whatever the operation wanted",
    observe: async (context) => ({
      verdict: (await networksFit(context, [hostId])) ? "done" : "todo",
    }),
    do: (context) => applyNetworks(context, { required: [hostId], networkIds: [] }),
  }));
}
