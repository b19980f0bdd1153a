/**
 * What operations cost: journal writes, overhead of a step, a hundred machines, a restart with a thousand unfinished
 * operations, memory and time with many machines, and how fast the simulator's time passes. The rival of each durable
 * figure is the same work on a journal in memory: what is left is the price of the disk.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { MachineRecord } from "@drover/shepherd/model/objects";
import type { HostRecord } from "@drover/shepherd/model/site";
import { createOperations } from "@drover/shepherd/operations/operations";
import { createObserver } from "@drover/shepherd/sensing/observer";
import { createWorld } from "@drover/shepherd/simulated/world";
import { openSqliteStore, type SqliteStore } from "@drover/shepherd/store/sqlite";
import { systemClock as clock, createIds } from "@drover/shepherd/system";
import { pino } from "pino";
import { admitOrder, cost } from "../shepherd/operations/order.ts";
import { playScenario } from "../simulation/scenario/play.ts";
import { readScenario } from "../simulation/scenario/read.ts";

// No timer of a room keeps the process: this one does.
const alive = setInterval(() => undefined, 2 ** 30);
const folder = mkdtempSync(join(tmpdir(), "drover-bench-"));
const ids = createIds(clock);
const log = pino({ level: "silent" });
/** A tenth is enough to see that it works: BENCH_SCALE=0.1. */
const scale = Number(process.env["BENCH_SCALE"] ?? 1);
const scaled = (count: number) => Math.max(20, Math.round(count * scale));
const size = { vcpus: 1, cpuPercent: 10, memoryMib: 64 };
const gib = 2 ** 30;
const hosts: readonly HostRecord[] = Array.from({ length: 20 }, (_, n) => ({
  id: `north-${n}`,
  siteId: "north",
  pool: "drover",
  migrationAddress: `10.1.0.${n + 1}`,
  lend: { cpuPercent: 1_000_000, memoryMib: 1_000_000, diskGib: 100_000 },
}));

const row = (name: string, value: string, beside = "") =>
  console.log(`${name.padEnd(58)} ${value.padStart(16)}  ${beside}`);
const timed = async <T>(work: () => Promise<T>): Promise<[number, T]> => {
  const began = performance.now();
  const result = await work();
  return [performance.now() - began, result];
};

async function journalWrites(file: string): Promise<number> {
  const store = openSqliteStore(file);
  const writes = scaled(1_500);
  const [ms] = await timed(async () => {
    for (let n = 0; n < writes; n += 1) {
      await store.transaction(async (journal) => {
        await journal.steps.put({ operationId: "bench", n, name: "step", state: "done" });
        await journal.events.append({ kind: "step.ended", atMs: clock.nowMs(), data: { n } });
      });
    }
  });
  await store.close();
  return (writes / ms) * 1_000;
}

function shepherdOn(store: SqliteStore) {
  const world = createWorld({
    clock,
    hosts: hosts.map(({ id }) => ({
      id,
      cores: 1_000,
      memoryMib: 1_000_000,
      poolBytes: 1e6 * gib,
    })),
    speeds: {
      callMs: 0,
      startMs: 0,
      stopMs: 0,
      uploadMbps: 1e9,
      copyMbps: 1e9,
      balloonMibPerS: 1e9,
      switchMs: 0,
    },
  });
  const connection = world.connect();
  const operations = createOperations({
    store,
    hosts: connection.hosts,
    clock,
    ids,
    fleet: hosts,
    images: { sizeBytes: async () => 1_024, open: () => Readable.from([Buffer.alloc(1_024)]) },
    epoch: store.epoch,
    log,
  });
  return { world, connection, operations };
}

async function declare(store: SqliteStore): Promise<void> {
  const common = { version: 1, claimed: true, createdAtMs: clock.nowMs() };
  await store.transaction(async (journal) => {
    await journal.objects.put({
      ...common,
      kind: "environment",
      id: "ring",
      key: "ring",
      environmentId: undefined,
      spec: { name: "ring", owner: "alice", class: "batch", sites: ["north"] },
      effective: {},
    });
    await journal.objects.put({
      ...common,
      kind: "image",
      id: "image",
      key: "base",
      environmentId: undefined,
      spec: { name: "base", source: "/base", sha256: "aa" },
      effective: { sizeBytes: 1_024, virtualBytes: gib },
    });
  });
}

function record(n: number): MachineRecord {
  const id = `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
  return {
    kind: "machine",
    id,
    key: `ring/m-${n}`,
    environmentId: "ring",
    spec: {
      environmentId: "ring",
      name: `m-${n}`,
      speaker: false,
      imageId: "image",
      baseline: { ...size, siteId: "north" },
      envelope: { mode: "auto", memoryMib: { min: 32, max: 128 } },
      networks: [],
    },
    effective: {
      ...size,
      siteId: "",
      hostId: "",
      state: "creating",
      ceiling: { vcpus: 1, memoryMib: 128 },
      nics: [],
    },
    version: 1,
    claimed: true,
    createdAtMs: clock.nowMs(),
  };
}

async function createMachines(
  store: SqliteStore,
  operations: ReturnType<typeof shepherdOn>["operations"],
  from: number,
  count: number,
): Promise<void> {
  const admitted: string[] = [];
  for (let n = from; n < from + count; n += 1) {
    const machine = record(n);
    await store.transaction((journal) => journal.objects.put(machine));
    const action = {
      kind: "create_machine" as const,
      machineId: machine.id,
      hostId: hosts[n % hosts.length]?.id ?? "",
      siteId: "north",
      sizing: size,
      cost,
    };
    const order = { kind: "create" as const, environmentId: "ring", actions: [action] };
    admitted.push((await admitOrder({ operations, store, clock, ids }, order)).id);
  }
  operations.kick();
  for (const id of admitted) await operations.wait(id, 600_000);
}

row(
  "journal writes a second, durable",
  (await journalWrites(join(folder, "writes.sqlite"))).toFixed(0),
  `in memory ${(await journalWrites(":memory:")).toFixed(0)}`,
);

const file = join(folder, "journal.sqlite");
const store = openSqliteStore(file);
await declare(store);
const { world, connection, operations } = shepherdOn(store);
const hundred = scaled(100);
const thousand = scaled(1_000);
const [hundredMs] = await timed(() => createMachines(store, operations, 0, hundred));
row(`${hundred} machines created, ms`, hundredMs.toFixed(0));

const events = await store.read((journal) => journal.events.since(0, 100_000));
const spans = events.filter(({ kind }) => kind === "step.ended").length;
row(
  "overhead of a step at eight operations at once, ms",
  (hundredMs / spans).toFixed(2),
  `${spans} steps`,
);

const single: number[] = [];
for (let n = 0; n < hundred; n += 1) {
  const { id } = record(n);
  const action = { kind: "set_cpu_percent" as const, machineId: id, from: 10, to: 20, cost };
  const order = { kind: "adapt" as const, environmentId: "ring", actions: [action] };
  const [ms] = await timed(async () => {
    const operation = await admitOrder({ operations, store, clock, ids }, order);
    operations.kick();
    await operations.wait(operation.id, 60_000);
  });
  single.push(ms);
}
single.sort((a, b) => a - b);
row(
  "one-step operation from admission to end, ms p50 / p99",
  `${(single[Math.floor(hundred / 2)] ?? 0).toFixed(2)} / ${(single[Math.floor(hundred * 0.98)] ?? 0).toFixed(2)}`,
  "request, plan, grant, reservation, begin, step, end: 6 writes",
);

await createMachines(store, operations, hundred, thousand - hundred);
await operations.stop();
for (let n = 0; n < thousand; n += 1) {
  const action = {
    kind: "set_memory" as const,
    machineId: record(n).id,
    fromMib: 64,
    toMib: 80,
    cost,
  };
  const order = { kind: "adapt" as const, environmentId: "ring", actions: [action] };
  await admitOrder({ operations, store, clock, ids }, order);
}
const seqBefore = await store.read((journal) => journal.events.last());
const next = createOperations({
  store,
  hosts: connection.hosts,
  clock,
  ids,
  fleet: hosts,
  images: { sizeBytes: async () => 1_024, open: () => Readable.from([Buffer.alloc(1_024)]) },
  epoch: store.epoch,
  log,
});
const began = performance.now();
let firstMs: number | undefined;
const unlisten = store.onCommit(() => {
  firstMs ??= performance.now() - began;
});
await next.recover();
for (;;) {
  const open = await store.read((journal) =>
    journal.operations.list({ states: ["pending", "running", "undoing"], limit: 1 }),
  );
  if (open.length === 0) break;
  await clock.sleep(20);
}
unlisten();
row(`restart with ${thousand} unfinished: first action, ms`, (firstMs ?? 0).toFixed(0));
row(
  `restart with ${thousand} unfinished: all ended, ms`,
  (performance.now() - began).toFixed(0),
  `${(await store.read((journal) => journal.events.last())) - seqBefore} events`,
);

for (const count of [hundred, thousand, scaled(10_000)]) {
  // Domains beyond those that were created are copies: what is measured is looking, not making.
  for (let n = thousand; n < count; n += 1) {
    const host = world.data.hosts[hosts[n % hosts.length]?.id ?? ""];
    const model = host && Object.values(host.domains)[0];
    if (host === undefined || model?.spec === undefined) continue;
    const { id } = record(n);
    host.domains[id] = { ...model, id, name: `drover-ring-m-${n}`, spec: { ...model.spec, id } };
  }
  for (const [hostId, host] of Object.entries(world.data.hosts)) {
    if (count >= thousand) break;
    host.domains = Object.fromEntries(
      Object.entries(host.domains).filter(([id]) => Number(id.slice(-6)) < count),
    );
    void hostId;
  }
  const observer = createObserver({
    hosts: connection.hosts,
    sites: [{ id: "north", owner: "n", policy: "", hosts: [...hosts] }],
    clock,
    store,
    log,
  });
  await observer.refresh();
  const cpu = process.cpuUsage();
  const [lookMs] = await timed(async () => {
    for (let n = 0; n < 5; n += 1) await observer.refresh();
  });
  const used = process.cpuUsage(cpu);
  row(
    `a look at ${Object.values(world.data.hosts).reduce((sum, host) => sum + Object.keys(host.domains).length, 0)} machines on 20 hosts, ms`,
    (lookMs / 5).toFixed(1),
    `CPU ${((used.user + used.system) / 5_000).toFixed(1)} ms, RSS ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`,
  );
}
await next.stop();
await store.close();

// Each in a process of its own, so that none inherits what another took.
for (const count of [100, 1_000, 10_000].map((each) => Math.round(each * scale))) {
  const idle = JSON.parse(
    execFileSync(
      process.execPath,
      ["--expose-gc", join(import.meta.dirname, "operations-idle.ts"), String(count)],
      { encoding: "utf8", maxBuffer: 2 ** 24 },
    ),
  ) as Readonly<
    Record<
      | "rssMib"
      | "beforeMib"
      | "cpuPercent"
      | "longestHoldMs"
      | "p99HoldMs"
      | "holdP50Ms"
      | "holdMaxMs"
      | "asksAnswered",
      number
    >
  >;
  row(
    `a shepherd with ${count} machines that nobody asks: RSS, CPU`,
    `${idle.rssMib} MiB, ${idle.cpuPercent.toFixed(1)} %`,
    `of one core; Node and the simulated hosts alone ${idle.beforeMib} MiB`,
  );
  row(
    "  longest hold of the event loop meanwhile, ms",
    idle.longestHoldMs.toFixed(0),
    `p99 ${idle.p99HoldMs.toFixed(1)}; with a sweep of all hosts, and the simulated hosts' own work in it`,
  );
  row(
    "  `drover hold` answered while 16 ask, ms",
    `${idle.holdP50Ms.toFixed(1)}, worst of 30 ${idle.holdMaxMs.toFixed(0)}`,
    `${idle.asksAnswered} asks answered meanwhile; goal below 1,000 ms`,
  );
}

const scenarios = join(import.meta.dirname, "../simulation/scenarios");
const [playedMs, played] = await timed(() => playScenario(readScenario(scenarios, "site-cut-off")));
row(
  "virtual hours a second of the simulator, two machines, polling",
  (played.virtualMs / 3_600_000 / (playedMs / 1_000)).toFixed(2),
  "a whole shepherd: sensing every 2 s, sweeps every minute",
);
rmSync(folder, { recursive: true });
clearInterval(alive);
process.exit(0);
