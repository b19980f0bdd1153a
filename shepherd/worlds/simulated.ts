/** The simulated world behind the ports, in real time: hosts as large as they lend, kept over a restart in a file. */
import { join } from "node:path";
import type { Configuration } from "#configuration/configuration";
import type { HostClaim } from "#ports/claim";
import { openScaledClock } from "#simulated/clock";
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
    hosts: configuration.sites
      .flatMap((site) => site.hosts)
      .map(({ id, lend }) => ({
        id,
        cores: Math.ceil(lend.cpuPercent / percentPerCore),
        memoryMib: lend.memoryMib,
        poolBytes: lend.diskGib * bytesPerGib,
      })),
  });
  const connection = world.connect(claim);
  const closeSockets = openGuestSockets(world, join(configuration.stateDirectory, "guests"));
  return {
    hosts: connection.hosts,
    clock,
    witnesses: configuration.sites.map(({ id }) =>
      createFileWitness(id, join(configuration.stateDirectory, "sites", id, "checkpoints")),
    ),
    async close() {
      closeSockets();
      connection.cut();
    },
  };
}
