/**
 * The moment at which a moving machine is reached at its new host. Before the copy begins, every host of its networks is
 * told what will change, and has it waiting; when the destination runs the guest, one line to each host sends it off,
 * all at once and answered by nobody. What is derived and looked at (`applyNetworks`) follows and is what counts: an
 * entry that was not armed, or was armed in vain, is set there. Until then frames for the machine go to its source,
 * which holds it still: no frame is heard twice, and none is lost but those of the stop.
 */
import { toFaultData } from "#model/fault";
import { derive, hostsOfNetwork } from "#network/derive";
import type { MoveAction } from "#operations/move-action";
import { readNetworkState } from "#operations/network-state";
import { applyNetworks } from "#operations/networks";
import type { StepContext } from "#operations/step";

export interface CutOver {
  /** Once, right after the journal says that the machine lives at its destination. Never throws. */
  fire(): void;
}

/**
 * Also attaches the tap that the hypervisor has made at the destination, with its rates, so that only forwarding is left.
 * A host that cannot be armed is turned by the apply that follows.
 */
export async function armCutOver(context: StepContext, action: MoveAction): Promise<CutOver> {
  const { world } = context;
  const { machineId, toHostId } = action;
  await applyNetworks(context, { required: [toHostId], networkIds: [] });
  const now = await context.read((journal) => readNetworkState(journal, world.fleet));
  const machine = now.machines.find(({ id }) => id === machineId);
  const nics = machine?.effective.nics ?? [];
  const after = {
    ...now,
    machines: now.machines.map((each) =>
      each.id === machineId
        ? { ...each, effective: { ...each.effective, hostId: toHostId } }
        : each,
    ),
    incoming: now.incoming.filter((arrival) => arrival.machineId !== machineId),
  };
  const hostIds = new Set(nics.flatMap(({ networkId }) => hostsOfNetwork(networkId, now)));
  const armed = await Promise.all(
    // The destination first: nobody is heard before it opens the port.
    [...hostIds]
      .toSorted((left, right) => Number(right === toHostId) - Number(left === toHostId))
      .map(async (hostId) => {
        try {
          return await world.hosts.network(hostId).arm(derive(hostId, after), nics);
        } catch (error) {
          world.log.warn({ host: hostId, fault: toFaultData(error) }, "cut-over was not armed");
          return undefined;
        }
      }),
  );
  return {
    fire() {
      for (const change of armed) change?.fire();
    },
  };
}
