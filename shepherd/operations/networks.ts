/**
 * Brings hosts' networks to what the journal says now, all hosts that a change concerns at once, and tells whether they
 * are as it says. Knows which failures another try or a repair mends.
 */
import { toFaultData } from "#model/fault";
import type { HostId, NetworkId } from "#model/units";
import { hostsOfNetwork } from "#network/derive";
import { readNetworkState, withHost } from "#operations/network-state";
import type { StepContext, StepData } from "#operations/step";
import { doubtTunnel, settleTunnels } from "#operations/tunnels";
import type { NetworkDifference } from "#ports/host-network";

export interface NetworkTargets {
  /** Must be applied, else the step fails. */
  readonly required: readonly HostId[];
  /** Networks whose other carriers are told too; one that does not answer is told by repair when it is back. */
  readonly networkIds: readonly NetworkId[];
}

/** Applies everywhere at once; the outcome counts changes and names hosts that were left for repair. */
export async function applyNetworks(
  context: StepContext,
  targets: NetworkTargets,
): Promise<StepData> {
  const { world } = context;
  const state = await context.read((journal) => readNetworkState(journal, world.fleet));
  const hostIds = new Set(targets.required);
  for (const networkId of targets.networkIds) {
    for (const hostId of hostsOfNetwork(networkId, state)) hostIds.add(hostId);
    // Its gateway goes with the last machine, so its host is told then as well.
    const network = state.networks.find(({ id }) => id === networkId);
    if (network?.effective.gatewayHostId !== undefined)
      hostIds.add(network.effective.gatewayHostId);
  }
  if (await settleTunnels(context, [...hostIds])) {
    // A host with a new key is met by nobody before everybody has been told.
    for (const { id } of state.networks)
      for (const hostId of hostsOfNetwork(id, state)) hostIds.add(hostId);
  }
  const sorted = [...hostIds].toSorted();
  const results = await Promise.allSettled(
    sorted.map((hostId) => applyTo(context, hostId, targets.required.includes(hostId) ? 1 : 2)),
  );
  const skipped: string[] = [];
  let changes = 0;
  for (const [index, result] of results.entries()) {
    const hostId = sorted[index] ?? "";
    if (result.status === "fulfilled") {
      changes += result.value.length;
    } else if (targets.required.includes(hostId)) {
      throw result.reason;
    } else {
      world.log.warn(
        { host: hostId, fault: toFaultData(result.reason) },
        "network left for repair",
      );
      skipped.push(hostId);
    }
  }
  return { hosts: sorted, changes, skipped };
}

/** A required host's failure is the step's; another carrier gets a second try before it is left for repair. */
async function applyTo(
  context: StepContext,
  hostId: HostId,
  attempts: number,
): Promise<readonly NetworkDifference[]> {
  try {
    return await withHost(context, hostId, (wish) =>
      context.world.hosts.network(hostId).apply(wish),
    );
  } catch (error) {
    // A host that was started anew has lost its keys, and cannot do what it was told with them.
    if (doubtTunnel(context, hostId)) {
      if (await settleTunnels(context, [hostId])) await tellOthers(context, hostId);
    } else if (attempts <= 1) throw error;
    return applyTo(context, hostId, attempts - 1);
  }
}

/** A host has a new key: without it the others would speak to the old one. Who does not answer is told by repair. */
async function tellOthers(context: StepContext, hostId: HostId): Promise<void> {
  const { world } = context;
  const others = world.fleet.filter((host) => host.id !== hostId);
  const told = await Promise.allSettled(
    others.map(({ id }) =>
      withHost(context, id, async (wish) => {
        if (wish.bridges.length > 0) await world.hosts.network(id).apply(wish);
      }),
    ),
  );
  for (const [index, result] of told.entries()) {
    if (result.status === "fulfilled") continue;
    const host = others[index]?.id;
    world.log.warn({ host, fault: toFaultData(result.reason) }, "new key left for repair");
  }
}

/** Another operation's change stands in the journal a moment before its host has it; longer, and it is no moment. */
const fitPatienceMs = 5_000;
const fitPauseMs = 100;

/**
 * True when these hosts are as the journal says. A difference may be a neighbour's: an operation that runs beside this one
 * has journaled its change and not applied it yet; so a host that differs is looked at again for a while.
 */
export async function networksFit(
  context: StepContext,
  hostIds: readonly HostId[],
): Promise<boolean> {
  const { clock } = context.world;
  const fits = await Promise.all(
    hostIds.map(async (hostId) => {
      const endMs = clock.nowMs() + fitPatienceMs;
      for (;;) {
        const shared = await othersRun(context); // before the look: one that ends meanwhile still explains what it saw
        const differences = await withHost(context, hostId, (wish) =>
          context.world.hosts.network(hostId).audit(wish),
        );
        if (differences.length === 0) return true;
        if (!shared || clock.nowMs() >= endMs) return false;
        await clock.sleep(fitPauseMs);
      }
    }),
  );
  return fits.every(Boolean);
}

/** True while another operation runs that may have journaled what it has not applied. */
function othersRun(context: StepContext): Promise<boolean> {
  return context.read(async (journal) => {
    const active = await journal.operations.list({ states: ["running", "undoing"] });
    return active.some(({ id }) => id !== context.operation.id);
  });
}
