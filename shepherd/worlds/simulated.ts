/** The simulated world behind the ports, in real time: hosts as large as they lend, kept over a restart in a file. */
import { join } from "node:path";
import type { Configuration, HostConfiguration } from "#configuration/configuration";
import type { HostClaim } from "#ports/claim";
import { openScaledClock } from "#simulated/clock";
import type { SimulatedHostOptions } from "#simulated/data";
import { openGuestSockets } from "#simulated/guest-sockets";
import { createFileWitness } from "#simulated/witness";
import { createWorld } from "#simulated/world";
import type { HostWorld } from "#worlds/host-world";

const bytesPerGib = 2 ** 30;
const percentPerCore = 100;

export function connectSimulated(configuration: Configuration, claim?: HostClaim): HostWorld {
  const clock = openScaledClock({
    scale: configuration.simulatedSpeed,
    originFile: join(configuration.stateDirectory, "simulated-clock"),
  });
  const world = createWorld({
    clock,
    file: join(configuration.stateDirectory, "simulated.json"),
    hosts: configuration.sites.flatMap((site) => site.hosts).map(asLargeAsLent),
  });
  const connection = world.connect(claim);
  const closeSockets = openGuestSockets(world, join(configuration.stateDirectory, "guests"));
  return {
    hosts: connection.hosts,
    clock,
    witnesses: configuration.sites.map(({ id }) =>
      createFileWitness(id, join(configuration.stateDirectory, "sites", id, "checkpoints")),
    ),
    add: (host) => world.addHost(asLargeAsLent(host)),
    remove: async (id) => world.removeHost(id),
    async close() {
      closeSockets();
      connection.cut();
    },
  };
}

function asLargeAsLent({ id, lend }: HostConfiguration): SimulatedHostOptions {
  return {
    id,
    cores: Math.ceil(lend.cpuPercent / percentPerCore),
    memoryMib: lend.memoryMib,
    poolBytes: lend.diskGib * bytesPerGib,
  };
}
