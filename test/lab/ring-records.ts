/**
 * The records of a small environment `ring` (its network and the lab's image), for suites that drive operations on real
 * hosts without the API in front. Machines are each suite's own.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Ms } from "@drover/shepherd/model/units";
import type { Store } from "@drover/shepherd/ports/store";

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
