/**
 * What a host's network shall be, read from the journal: what arrives where is in the rows of running moves, so that a
 * shepherd that starts again, or another room that audits, derives the same. One piece of work at a time per host, each
 * from a reading of its own: two operations never overwrite each other with older state.
 */
import type { HostRecord } from "#model/site";
import type { HostId, MachineId } from "#model/units";
import { derive, type NetworkState } from "#network/derive";
import { withBudget } from "#operations/budget";
import type { StepContext } from "#operations/step";
import type { HostNetworkConfig } from "#ports/host-network";
import type { Journal } from "#ports/store";

/** A host that needs longer for a batch of a few commands is not answering. */
const applyBudgetMs = 20_000;

/** What is needed to bring a host's network to the journal. */
export type NetworkReach = Pick<StepContext, "world" | "exclusives" | "read">;

/** What a step that prepares a machine's arrival leaves in `observed`. */
export interface Arrival {
  readonly machineId: MachineId;
  readonly hostId: HostId;
}

export async function readNetworkState(
  journal: Journal,
  fleet: readonly HostRecord[],
): Promise<NetworkState> {
  const links = await journal.objects.list("link");
  return {
    hosts: fleet,
    networks: await journal.objects.list("network"),
    machines: await journal.objects.list("machine"),
    links: links.filter((link) => link.effective.rateMbps > 0),
    incoming: await readArrivals(journal),
    tunnelEnds: await journal.tunnelEnds.list(),
  };
}

/** Machines prepared at a destination by operations that have not ended. */
export async function readArrivals(journal: Journal): Promise<readonly Arrival[]> {
  const arrivals: Arrival[] = [];
  const active = await journal.operations.list({ states: ["running", "undoing", "stuck"] });
  for (const operation of active) {
    for (const step of await journal.steps.ofOperation(operation.id)) {
      if (step.state !== "doing" && step.state !== "done") continue;
      const { arrival } = (step.observed ?? {}) as { arrival?: Arrival };
      if (arrival !== undefined) arrivals.push(arrival);
    }
  }
  return arrivals;
}

/** Work on a host's network with what it shall be now; one after the other for each host. */
export function withHost<T>(
  context: NetworkReach,
  hostId: HostId,
  work: (wish: HostNetworkConfig) => Promise<T>,
): Promise<T> {
  const { world, exclusives } = context;
  return exclusives(`network ${hostId}`, async () => {
    const state = await context.read((journal) => readNetworkState(journal, world.fleet));
    return withBudget(world.clock, { what: `network of ${hostId}`, budgetMs: applyBudgetMs }, () =>
      work(derive(hostId, state)),
    );
  });
}
