import { join } from "node:path";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import { createRepairs, type Repairs } from "@drover/shepherd/policy/repairs";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { createSeededIds } from "@drover/shepherd/simulated/ids";
import { reaches } from "@drover/shepherd/simulated/network";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pino from "pino";
import { type Shepherd, siteOf, startShepherd } from "./shepherd.ts";

const folders = {
  operator: "operator",
  "owner:*": "owner",
  "site:north": "site-north",
  "site:south": "site-south",
};
const engines = new Map<string, PolicyEngine>();
const clock = createScaledClock({ scale: 20, originMs: Date.now() });
let shepherd: Shepherd;
let repairs: Repairs;
beforeAll(async () => {
  for (const [owner, folder] of Object.entries(folders)) {
    const source = { owner, folder: join(libraryFolder, "data", folder) };
    engines.set(owner, await openPolicy(source));
  }
  const sites = [
    siteOf("north", { "north-1": { cpuPercent: 200, memoryMib: 1024 } }),
    siteOf("south", { "south-1": { cpuPercent: 400, memoryMib: 4096 } }),
  ];
  shepherd = await startShepherd({ clock, engines, sites });
  const { store, gate, operations } = shepherd;
  const ids = createSeededIds({ clock, seed: 99 });
  repairs = createRepairs({ store, gate, operations, clock, ids, log: pino({ level: "silent" }) });
}, 120_000);
afterAll(async () => {
  repairs.stop();
  await shepherd.stop();
  for (const engine of engines.values()) await engine.close();
});

const until = async (isSo: () => Promise<boolean> | boolean): Promise<void> => {
  while (!(await isSo())) await clock.sleep(200);
};
/** Only what the shepherd's own operations do counts; a host forgets by itself. */
const forgetNetwork = (hostId: string): void => {
  const host = shepherd.world.data.hosts[hostId];
  if (host !== undefined) host.network = { hostId, bridges: [] };
};
const repaired = async () => {
  const all = await shepherd.store.read((journal) => journal.operations.list({}));
  return all.filter((one) => one.kind === "repair" && one.state === "succeeded").length;
};

test("a host that comes back is brought to the journal by itself, and so is one that changed before the start", async () => {
  const baseline = { vcpus: 1, cpuPercent: 20, memoryMib: 256 };
  await shepherd.create([
    { name: "rank-0", baseline: { ...baseline, siteId: "north" } },
    { name: "rank-1", baseline: { ...baseline, siteId: "south" } },
  ]);
  await shepherd.settled();
  const [left, right] = [await shepherd.machine("rank-0"), await shepherd.machine("rank-1")];
  const joined = () =>
    reaches(shepherd.world.data, left.id, right.id) &&
    reaches(shepherd.world.data, right.id, left.id);
  expect(joined()).toBe(true);

  forgetNetwork("north-1");
  repairs.start();
  await until(joined);
  await until(async () => (await repaired()) >= 1);

  shepherd.world.setReachable("south-1", false);
  forgetNetwork("south-1");
  const degraded = () => shepherd.observer.sites()[1]?.hosts[0]?.state === "degraded";
  await until(degraded);
  expect(joined()).toBe(false);
  shepherd.world.setReachable("south-1", true);
  await until(joined);
  await until(async () => (await repaired()) >= 2);
  expect(shepherd.world.violations).toEqual([]);
}, 60_000);
