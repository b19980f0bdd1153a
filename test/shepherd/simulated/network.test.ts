import { Readable } from "node:stream";
import { bridgeName } from "@drover/shepherd/network/names";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { createWorld } from "@drover/shepherd/simulated/world";
import { hostNetworkContract } from "../../contracts/host-network.ts";

hostNetworkContract("simulated", async () => {
  const clock = createVirtualClock();
  const size = { cores: 4, memoryMib: 4096, poolBytes: 2 ** 34 };
  const world = createWorld({
    clock,
    hosts: ["north-1", "south-1"].map((id) => ({ id, ...size })),
  });
  const { hosts } = world.connect();
  return {
    networks: [hosts.network("north-1"), hosts.network("south-1")],
    addresses: ["10.0.0.1", "10.0.0.2"],
    startMachine: async ({ tap, mac }) => {
      const host = hosts.get("north-1");
      const content = Buffer.alloc(64 * 1024, 1);
      for (const name of ["base.qcow2", "kernel", "initrd"])
        await clock.until(
          host.volumes.upload({
            name,
            format: name.endsWith("qcow2") ? "qcow2" : "raw",
            sizeBytes: content.length,
            capacityBytes: name.endsWith("qcow2") ? 2 ** 30 : content.length,
            open: () => Readable.from([content]),
          }),
        );
      await clock.until(
        host.volumes.createOverlay({
          name: "disk.qcow2",
          backing: "base.qcow2",
          capacityBytes: 2 ** 30,
        }),
      );
      await clock.until(
        host.startDomain({
          id: "0192f000-1111-7222-8333-00000000c001",
          name: "drover-ring-rank-0",
          environmentId: "ring",
          owner: "alice",
          epoch: 1,
          vcpus: 1,
          vcpusMax: 1,
          cpuPercent: 90,
          memoryMib: 192,
          memoryMaxMib: 192,
          boot: { kernelVolume: "kernel", initrdVolume: "initrd", cmdline: "" },
          diskVolume: "disk.qcow2",
          nics: [{ mac, bridge: bridgeName("network-ring-lan"), tap, mtu: 1450 }],
          channels: [],
        }),
      );
    },
    until: (work) => clock.until(work),
    close: async () => undefined,
  };
});
