/**
 * What real hosts hold of ours beside what the journal says, asked of every host anew: domains, disks, networks, room.
 * Whatever was done to shepherds, daemons and wires, suites end by asking this, and expect nothing.
 */
import type { HostRecord } from "@drover/shepherd/model/site";
import { derive } from "@drover/shepherd/network/derive";
import { readNetworkState } from "@drover/shepherd/operations/network-state";
import type { Hosts } from "@drover/shepherd/ports/host";
import type { Store } from "@drover/shepherd/ports/store";

/** One line a finding, with its host; empty when each machine is whole, once, where the record says, and nothing else is. */
export async function problemsOf(world: {
  readonly hosts: Hosts;
  readonly store: Store;
  readonly fleet: readonly HostRecord[];
}): Promise<readonly string[]> {
  const { hosts, store, fleet } = world;
  const { machines, state, held } = await store.read(async (journal) => ({
    machines: await journal.objects.list("machine"),
    state: await readNetworkState(journal, fleet),
    held: await journal.reservations.list(),
  }));
  const homes = new Map(machines.map((one) => [one.id, one.effective.hostId]));
  const running = new Map<string, string[]>();
  const found: string[] = [];
  const looks = fleet.map(async ({ id }) => {
    const host = hosts.get(id);
    for (const domain of await host.listDomains()) {
      if (domain.state === "running")
        running.set(domain.id, [...(running.get(domain.id) ?? []), id]);
      if (homes.get(domain.id) !== id || domain.state !== "running")
        found.push(`${id}: ${domain.name} ${domain.state}`);
    }
    for (const { name } of await host.volumes.list()) {
      if (isLeftOver(name, id, homes)) found.push(`${id}: ${name}`);
    }
    const differences = await hosts.network(id).audit(derive(id, state));
    found.push(...differences.map((each) => `${id}: ${each.problem} ${each.object}`));
  });
  await Promise.all(looks);
  for (const { id, spec, effective } of machines) {
    const at = running.get(id) ?? [];
    if (at.length !== (effective.state === "running" ? 1 : 0))
      found.push(`${spec.name} is ${effective.state}, and runs at [${at.join(", ")}]`);
  }
  found.push(...held.map((one) => `reservation of ${one.machineId} at ${one.hostId}`));
  return found.toSorted();
}

/**
 * A disk away from its machine's home, one of a machine that is no more, and a layer or file beside the disk that a step
 * should have taken away again. (Images are named by a digest, without dashes; what a failed move keeps for its
 * repetition is not whole, and so not in a host's list.)
 */
function isLeftOver(name: string, hostId: string, homes: ReadonlyMap<string, string>): boolean {
  const machineId = /^drover-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/.exec(name)?.[1];
  if (machineId === undefined) return false;
  return homes.get(machineId) !== hostId || name !== `drover-${machineId}.qcow2`;
}
