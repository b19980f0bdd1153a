import { Readable } from "node:stream";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { createWorld } from "@drover/shepherd/simulated/world";
import { hostContract } from "../../contracts/host.ts";

const gib = 2 ** 30;
const part = (name: string, format: "qcow2" | "raw", capacityBytes: number) => {
  const content = Buffer.alloc(64 * 1024, 1);
  const open = () => Readable.from([content]);
  return { name, format, sizeBytes: content.length, capacityBytes, open };
};

hostContract("simulated", async () => {
  const clock = createVirtualClock();
  const host = { cores: 4, memoryMib: 4096, poolBytes: 20 * gib };
  const world = createWorld({
    clock,
    hosts: [
      { id: "north-1", ...host },
      { id: "south-1", ...host },
    ],
  });
  const { hosts } = world.connect();
  for (const hostId of ["north-1", "south-1"]) {
    const bridge = {
      networkId: "lan",
      bridge: "dvtest0",
      vxlan: "dvx",
      vni: 1,
      mtu: 1450,
      localAddress: "10.0.0.1",
      peers: [],
      remotes: [],
      ports: [],
    };
    await clock.until(hosts.network(hostId).apply({ hostId, bridges: [bridge] }));
  }
  const spec = {
    id: "0192f000-1111-7222-8333-00000000c001",
    name: "drover-ring-rank-0",
    environmentId: "ring",
    owner: "alice & bob",
    epoch: 3,
    vcpus: 1,
    vcpusMax: 4,
    cpuPercent: 90,
    memoryMib: 192,
    memoryMaxMib: 384,
    boot: { kernelVolume: "drover-kernel", initrdVolume: "drover-initrd", cmdline: "" },
    diskVolume: "drover-rank-0.qcow2",
    nics: [{ mac: "52:54:00:00:a0:01", bridge: "dvtest0", tap: "dvt0a001", mtu: 1450 }],
    channels: [],
  };
  return {
    from: hosts.get("north-1"),
    to: hosts.get("south-1"),
    destinationAddress: "10.0.0.2",
    spec,
    parts: [
      part("drover-base.qcow2", "qcow2", gib),
      part("drover-kernel", "raw", 64 * 1024),
      part("drover-initrd", "raw", 64 * 1024),
    ],
    base: { name: "drover-base.qcow2", capacityBytes: gib },
    until: (work) => clock.until(work),
    sleep: (durationMs) => clock.sleep(durationMs),
    setMemoryBehind: async ({ id }, memoryMib) => world.setMemoryBehind(id, spec.id, memoryMib),
    close: async () => expectNone(world.violations),
  };
});

function expectNone(violations: readonly string[]): void {
  if (violations.length > 0) throw new Error(violations.join("; "));
}
