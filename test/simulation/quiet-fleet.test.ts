/**
 * A fleet that stands still costs little: minutes of looks, sweeps and timers over all machines parse no row of the
 * journal again, and keep nothing new of what hosts say. Figures of time are the bench's (`make bench-operations`).
 */
import type { MachineRecord } from "@drover/shepherd/model/objects";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import type { DomainData } from "@drover/shepherd/simulated/data";
import { expect, test } from "@jest/globals";
import { environmentId, siteOf, startShepherd } from "./shepherd.ts";

const fleetSize = 60;
const clock = createVirtualClock();
const size = { vcpus: 1, cpuPercent: 1, memoryMib: 16 };
const hostOf = (n: number) => `north-${1 + (n % 3)}`;
const idOf = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

test("minutes over a fleet that stands still parse no row twice; one change is one row", async () => {
  const lent = { cpuPercent: 800, memoryMib: 16_384 };
  const hosts = { "north-1": lent, "north-2": lent, "north-3": lent };
  const shepherd = await clock.until(
    startShepherd({ clock, engines: new Map(), sites: [siteOf("north", hosts)], care: true }),
  );
  const { store, world, observer } = shepherd;
  for (let n = 0; n < fleetSize; n += 1) {
    const host = world.data.hosts[hostOf(n)];
    if (host !== undefined) host.domains[idOf(n)] = domainOf(n);
  }
  await store.transaction(async (journal) => {
    for (let n = 0; n < fleetSize; n += 1) await journal.objects.put(recordOf(n));
  });
  await clock.advance(30_000);
  const parsed = store.objectsParsed();
  // each was parsed when it was written; the rest is the environment and its image
  expect(parsed).toBeGreaterThanOrEqual(fleetSize);
  expect(parsed).toBeLessThan(fleetSize + 10);
  expect(Object.keys(observer.observed())).toHaveLength(fleetSize);

  const [swept, looked] = [shepherd.janitor.differences(), observer.foreign()];
  await shepherd.marks.drain({ hostId: "north-2", by: "test", reason: "counted" });
  await clock.advance(150_000);
  expect(store.objectsParsed()).toBe(parsed);
  expect([shepherd.janitor.differences(), observer.foreign()]).toEqual([swept, looked]);

  const first = await store.read((journal) => journal.objects.get("machine", idOf(0)));
  if (first === undefined) throw new Error("the first machine is gone");
  await store.transaction((journal) => journal.objects.put({ ...first, version: 2 }));
  await clock.advance(70_000);
  expect(store.objectsParsed()).toBe(parsed + 1);
  await clock.until(shepherd.stop());
});

function recordOf(n: number): MachineRecord {
  return {
    kind: "machine",
    id: idOf(n),
    key: `${environmentId}/m-${n}`,
    environmentId,
    spec: {
      environmentId,
      name: `m-${n}`,
      speaker: false,
      imageId: "image",
      baseline: { ...size, siteId: "north" },
      envelope: { mode: "auto" },
      networks: [],
    },
    effective: {
      ...size,
      siteId: "north",
      hostId: hostOf(n),
      state: "running",
      ceiling: { vcpus: 1, memoryMib: 16 },
      nics: [],
    },
    version: 1,
    claimed: true,
    createdAtMs: clock.nowMs(),
  };
}

function domainOf(n: number): DomainData {
  const nowMs = clock.nowMs();
  return {
    id: idOf(n),
    name: `drover-ring-m-${n}`,
    spec: undefined,
    mark: { environmentId, owner: "alice", epoch: 0 },
    state: "running",
    vcpus: 1,
    vcpusMax: 1,
    cpuPercent: 1,
    memoryMaxMib: 16,
    askedMib: 16,
    memory: { fromMib: 16, toMib: 16, sinceMs: nowMs },
    cpuTime: { beforeMs: 0, sinceMs: nowMs },
    bootId: `boot-${n}`,
    bootedAtMs: nowMs,
    diskContent: "",
    job: "none",
  };
}
