/**
 * The promised rate of a link. A rate lives only in the network state derived from the journal, so the journal changes
 * first and the two hosts follow; undo is the same the other way.
 */
import type { LinkRecord } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { HostId, LinkId, Mbps } from "#model/units";
import { applyNetworks, networksFit } from "#operations/networks";
import { changeLink, needLink, removeObject } from "#operations/records";
import type { Look, Step, StepContext, StepData } from "#operations/step";
import type { Journal } from "#ports/store";

const relinkBudgetMs = 60_000;

interface Before extends StepData {
  readonly effectiveMbps: Mbps;
}

export function relinkSteps(action: Extract<PlanAction, { kind: "set_rate" }>): readonly Step[] {
  const { linkId, toMbps } = action;
  const put = async (context: StepContext, rateMbps: Mbps) => {
    await context.mark({}, (journal) =>
      changeLink(journal, linkId, context.world.clock.nowMs(), { rateMbps }),
    );
    return applyNetworks(context, { required: await hostsOf(context, linkId), networkIds: [] });
  };
  return [
    {
      name: `link ${linkId}: ${toMbps} Mbit/s`,
      budgetMs: relinkBudgetMs,
      weightMs: 300,
      async observe(context): Promise<Look> {
        const link = await context.read((journal) => journal.objects.get("link", linkId));
        const seen: Before = { effectiveMbps: link?.effective.rateMbps ?? 0 };
        if (link === undefined) return { verdict: "done", seen };
        if (link.effective.rateMbps !== toMbps) return { verdict: "todo", seen };
        const fits = await networksFit(context, await hostsOf(context, linkId));
        return { verdict: fits ? "done" : "todo", seen };
      },
      do: (context) => put(context, toMbps),
      async commit(journal, context) {
        // A link without a rate is none: whoever added it, or its owner, has taken it away.
        if (toMbps === 0) await forget(journal, context, linkId);
      },
      async undo(context) {
        const before = context.record?.observed as Before;
        await put(context, before.effectiveMbps);
      },
    },
  ];
}

/** A destroyed link leaves the journal when its rate is off the hosts. */
async function forget(journal: Journal, context: StepContext, linkId: LinkId): Promise<void> {
  const link = await journal.objects.get("link", linkId);
  if (link !== undefined) await removeObject(journal, link, context.world.clock.nowMs());
}

/** Where the link's machines are now; a machine that is nowhere yet gets its rates when it starts. */
function hostsOf(context: StepContext, linkId: LinkId): Promise<readonly HostId[]> {
  return context.read(async (journal) => {
    const link: LinkRecord = await needLink(journal, linkId);
    const { environmentId } = link.spec;
    const machines = await journal.objects.list("machine", { environmentId });
    const ends = machines.filter((machine) => link.spec.machines.includes(machine.spec.name));
    const hostIds = ends.map((machine) => machine.effective.hostId).filter((id) => id !== "");
    return [...new Set(hostIds)];
  });
}
