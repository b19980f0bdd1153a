import type { Site } from "@drover/shepherd/model/site";
import { createObserver } from "@drover/shepherd/sensing/observer";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { createWorld } from "@drover/shepherd/simulated/world";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { expect, test } from "@jest/globals";
import pino from "pino";

const record = (id: string, siteId: string) => ({
  id,
  siteId,
  pool: "drover",
  migrationAddress: "192.0.2.1",
  lend: { cpuPercent: 400, memoryMib: 4096, diskGib: 50 },
});
const sites: readonly Site[] = [
  {
    id: "north",
    owner: "n",
    policy: "",
    hosts: [record("north-1", "north"), record("north-2", "north")],
  },
  { id: "south", owner: "s", policy: "", hosts: [record("south-1", "south")] },
];

async function observed() {
  const clock = createVirtualClock();
  const world = createWorld({
    clock,
    hosts: sites.flatMap(({ hosts }) =>
      hosts.map(({ id }) => ({ id, cores: 8, memoryMib: 16_384, poolBytes: 2 ** 36 })),
    ),
  });
  const store = openSqliteStore(":memory:");
  const { hosts } = world.connect();
  const observer = createObserver({ hosts, sites, clock, store, log: pino({ level: "silent" }) });
  const state = (id: string) =>
    observer
      .sites()
      .flatMap((site) => site.hosts)
      .find((host) => host.id === id);
  return { clock, world, store, observer, state };
}

test("before the first look every host is degraded; after it they are up", async () => {
  const { clock, observer, state, store } = await observed();
  expect(state("north-1")).toEqual(expect.objectContaining({ state: "degraded", observedAtMs: 0 }));
  observer.start();
  await clock.advance(100);
  expect(state("north-1")).toMatchObject({ state: "up", observedAtMs: expect.any(Number) });
  expect(state("north-1")?.freeMemoryMib).toBeGreaterThan(0);
  observer.stop();
  await store.close();
});

test("a host that hangs is degraded within its budget and delays no other; it comes back by itself", async () => {
  const { clock, world, observer, state, store } = await observed();
  observer.start();
  await clock.advance(100);
  world.setReachable("north-1", false);
  world.startForeign("south-1", { id: "f", name: "foreign", vcpus: 2, memoryMib: 512 });
  await clock.advance(3_000);
  expect(state("south-1")?.foreign).toEqual({ count: 1, cpuPercent: 200, memoryMib: 512 });
  await clock.advance(10_000);
  expect(state("north-1")?.state).toBe("degraded");
  expect(state("north-2")?.state).toBe("up");
  world.setReachable("north-1", true);
  await clock.advance(10_000);
  expect(state("north-1")?.state).toBe("up");
  const events = await store.read((journal) => journal.events.since(0, 100));
  expect(
    events.filter(({ data }) => data["host"] === "north-1").map(({ data }) => data["state"]),
  ).toEqual(["up", "degraded", "up"]);
  observer.stop();
  await store.close();
});

test("an event is looked at soon, a refresh sees what happened before it", async () => {
  const { clock, world, observer, state, store } = await observed();
  observer.start();
  await clock.advance(1_000);
  world.startForeign("north-2", { id: "f", name: "foreign", vcpus: 1, memoryMib: 256 });
  await clock.until(observer.refresh(["north-2"]));
  expect(state("north-2")?.foreign.count).toBe(1);
  world.stopForeign("north-2", "f");
  await clock.advance(300);
  expect(state("north-2")?.foreign.count).toBe(0);
  observer.stop();
  await store.close();
});

test("what a host said too long ago is no ground for a decision", async () => {
  const { clock, observer, state, store } = await observed();
  observer.start();
  await clock.advance(100);
  // Nobody looks any more, as when the process is stopped for a while.
  observer.stop();
  await clock.advance(100_000);
  expect(state("north-1")?.state).toBe("up");
  await clock.advance(100_000);
  expect(state("north-1")?.state).toBe("degraded");
  observer.start();
  await clock.advance(100);
  expect(state("north-1")?.state).toBe("up");
  observer.stop();
  await store.close();
});

test("a daemon that hangs and recovers is asked again, though no call of it ever ended", async () => {
  const { clock, world, observer, state, store } = await observed();
  observer.start();
  await clock.advance(100);
  world.faults.inject({ hostId: "north-1", effect: "hang", times: 1_000_000 });
  await clock.advance(300_000);
  expect(state("north-1")?.state).toBe("degraded");
  world.faults.clear();
  await clock.advance(90_000);
  expect(state("north-1")?.state).toBe("up");
  observer.stop();
  await store.close();
});
