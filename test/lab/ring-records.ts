/**
 * The records of a small environment `ring` (its network, the lab's image, its machines), and operations on its real
 * hosts, for suites that drive operations without the API in front.
 */
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { HostRecord } from "@drover/shepherd/model/site";
import type { Ms } from "@drover/shepherd/model/units";
import { macAddress, tapName } from "@drover/shepherd/network/names";
import { createOperations, type Operations } from "@drover/shepherd/operations/operations";
import type { Store } from "@drover/shepherd/ports/store";
import { systemClock as clock, type createIds } from "@drover/shepherd/system";
import type { connectLibvirt } from "@drover/shepherd/worlds/libvirt";
import type { Logger } from "pino";

export async function declareRing(
  store: Store,
  ring: {
    readonly environmentId: string;
    readonly networkId: string;
    readonly imageId: string;
    /** The folder that the lab's `up` names. */
    readonly imageDirectory: string;
    readonly diskBytes: number;
    readonly nowMs: Ms;
  },
): Promise<void> {
  const { environmentId, diskBytes } = ring;
  const file = (part: string) => join(ring.imageDirectory, part);
  const { sha256 } = JSON.parse(readFileSync(file("image.json"), "utf8")) as {
    sha256: { "base.qcow2": string; kernel: string; initrd: string };
  };
  const common = { version: 1, claimed: true, createdAtMs: ring.nowMs };
  await store.transaction(async (journal) => {
    await journal.objects.put({
      ...common,
      kind: "environment",
      id: environmentId,
      key: "ring",
      environmentId: undefined,
      spec: { name: "ring", owner: "alice", class: "batch", sites: ["north", "south"] },
      effective: {},
    });
    await journal.objects.put({
      ...common,
      kind: "network",
      id: ring.networkId,
      key: `${environmentId}/lan`,
      environmentId,
      spec: { environmentId, name: "lan", cidr: "10.42.0.0/24" },
      // What is left between encrypted sites.
      effective: { vni: 0xd00000, mtu: 1370 },
    });
    await journal.objects.put({
      ...common,
      kind: "image",
      id: ring.imageId,
      key: "base",
      environmentId: undefined,
      spec: {
        name: "base",
        source: file("base.qcow2"),
        sha256: sha256["base.qcow2"],
        kernel: file("kernel"),
        initrd: file("initrd"),
        cmdline: "console=ttyS0 quiet",
      },
      effective: {
        sizeBytes: statSync(file("base.qcow2")).size,
        virtualBytes: diskBytes,
        kernelSha256: sha256.kernel,
        initrdSha256: sha256.initrd,
      },
    });
  });
}

/** `rank-<index>`, as an environment declares it at north: not there yet, with the address 10.42.0.1<index>. */
export async function declareRank(
  store: Store,
  rank: {
    readonly machineId: string;
    readonly index: number;
    readonly environmentId: string;
    readonly networkId: string;
    readonly imageId: string;
    readonly sizing: {
      readonly vcpus: number;
      readonly cpuPercent: number;
      readonly memoryMib: number;
    };
  },
): Promise<void> {
  const { machineId, index, environmentId, networkId, imageId, sizing } = rank;
  await store.transaction((journal) =>
    journal.objects.put({
      version: 1,
      claimed: true,
      createdAtMs: clock.nowMs(),
      kind: "machine",
      id: machineId,
      key: `${environmentId}/rank-${index}`,
      environmentId,
      spec: {
        environmentId,
        name: `rank-${index}`,
        speaker: false,
        imageId,
        baseline: { ...sizing, siteId: "north" },
        envelope: { mode: "auto", memoryMib: { min: 192, max: 256 } },
        networks: [{ networkId }],
      },
      effective: {
        ...sizing,
        siteId: "",
        hostId: "",
        state: "creating",
        ceiling: { vcpus: 1, memoryMib: 256 },
        nics: [
          {
            networkId,
            address: `10.42.0.1${index}`,
            prefixLength: 24,
            mac: macAddress(machineId, 0),
            tap: tapName(machineId, 0),
          },
        ],
      },
    }),
  );
}

/** Operations on those connections; images are files of this machine. */
export function operationsOn(
  world: ReturnType<typeof connectLibvirt>,
  of: {
    readonly store: Store;
    readonly ids: ReturnType<typeof createIds>;
    readonly fleet: readonly HostRecord[];
    readonly epoch: number;
    readonly log: Logger;
  },
): Operations {
  return createOperations({
    ...of,
    hosts: world.hosts,
    clock,
    images: {
      sizeBytes: async (path) => statSync(path).size,
      open: (path) => createReadStream(path),
    },
    migrationTls: world.migrationTls,
  });
}
