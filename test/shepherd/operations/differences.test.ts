/** Copies of a volume that a move has left behind: told, and removed only when the volume is proven to lie elsewhere. */
import { differencesOf, type KnownVolume } from "@drover/shepherd/operations/differences";
import type { ObservedDomain } from "@drover/shepherd/ports/host";
import { expect, test } from "@jest/globals";
import { cost, createFleet } from "./fleet.ts";

const name = "drover-data.qcow2";
const known: KnownVolume = { id: "data", hostId: "south-1", isThere: true, isBusy: false };
const user: ObservedDomain = {
  id: "foreign",
  name: "foreign",
  state: "shut_off",
  vcpus: 1,
  vcpusMax: 1,
  memoryMib: 1,
  memoryTargetMib: 1,
  memoryMaxMib: 1,
  diskVolumes: [name],
};

test.each<[string, KnownVolume, readonly ObservedDomain[], readonly (string | undefined)[]]>([
  ["it lies here", { ...known, hostId: "north-1" }, [], []],
  ["its machine is at work", { ...known, isBusy: true }, [], []],
  ["it lies elsewhere", known, [], ["litter"]],
  ["its home has not said so", { ...known, isThere: false }, [], ["foreign_change"]],
  ["somebody uses it", known, [user], ["foreign_change"]],
])("a file of a volume is what it is: %s", (_, volume, domains, classes) => {
  const holds = {
    hostId: "north-1",
    domains,
    volumes: [{ name, capacityBytes: 1, allocatedBytes: 1 }],
    network: [],
  };
  const found = differencesOf(holds, {
    machines: new Map(),
    busy: new Set(),
    claimedVolumes: new Set(),
    dataVolumes: new Map([[name, volume]]),
    runsAt: new Map(),
  });
  expect(found.map((one) => one.class)).toEqual(classes);
});

test("a copy goes, the volume itself never does, whatever a sweep was told", async () => {
  const fleet = await createFleet();
  const shepherd = fleet.start();
  await fleet.addVolume("data", "north-1", 1);
  await fleet.create(shepherd, "rank-0", "north-1", ["data"]);
  const copy = { name, capacityBytes: 2 ** 30 };
  await fleet.clock.until(shepherd.connection.hosts.get("south-1").volumes.createEmpty(copy));
  const sweep = (hostId: string) => {
    const item = { kind: "volume", id: name, because: "elsewhere", volumeId: "data" } as const;
    return fleet.perform(shepherd, "repair", [
      { kind: "sweep_host", hostId, litter: [item], cost },
    ]);
  };
  expect(await sweep("north-1")).toMatchObject({ state: "partial" });
  expect(await sweep("south-1")).toMatchObject({ state: "succeeded" });
  expect(await fleet.litter()).toEqual([]);
  expect(fleet.world.violations).toEqual([]);
});
