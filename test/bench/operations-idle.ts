/**
 * One whole shepherd with so many machines, in a process of its own: what it keeps in memory and what it costs while
 * nobody asks for anything; then how long a hold takes to answer while many ask. Started by operations.ts with the number;
 * prints one line of JSON. Simulated hosts live in the same process: what they alone take is measured first and told apart.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { ShepherdClient } from "@drover/shepherd/api/client";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { startShepherd } from "@drover/shepherd/main";
import type { MachineRecord } from "@drover/shepherd/model/objects";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import type { DomainData } from "@drover/shepherd/simulated/data";
import { createWorld } from "@drover/shepherd/simulated/world";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { pino } from "pino";

const count = Number(process.argv[2] ?? 100);
/** Three rounds of looks would be 6 s; a sweep of every host is due each minute, so one is always among these. */
const watchedMs = Number(process.argv[3] ?? 65_000);
const hostCount = 20;
const [askerCount, holdCount] = [16, 30];
const folder = mkdtempSync(join(tmpdir(), "drover-idle-"));
const hostIds = Array.from({ length: hostCount }, (_, n) => `north-${n}`);
const hostOf = (n: number) => hostIds[n % hostCount] ?? "";
const idOf = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
const rssMib = () => {
  globalThis.gc?.();
  return Math.round(process.memoryUsage().rss / 2 ** 20);
};

const clock = createScaledClock({ scale: 1, originMs: Date.now() });
const world = createWorld({
  clock,
  hosts: hostIds.map((id) => ({ id, cores: 1_000, memoryMib: 1_000_000, poolBytes: 2 ** 50 })),
});
for (let n = 0; n < count; n += 1) {
  const host = world.data.hosts[hostOf(n)];
  if (host !== undefined) host.domains[idOf(n)] = domainOf(n);
}

mkdirSync(join(folder, "state"));
const store = openSqliteStore(join(folder, "state", "journal.sqlite"));
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
  for (let n = 0; n < count; n += 1) await journal.objects.put(recordOf(n));
});
await store.close();

const configuration = readConfiguration(
  `world: simulated
state_dir: state
socket: shepherd.sock
sites:
  - id: north
    owner: north-lab
    hosts:
${hostIds.map((id, n) => `      - { id: ${id}, migration_address: 10.77.0.${n + 1}, lend: { cpu_percent: 900000, memory_mib: 900000, disk_gib: 100000 } }`).join("\n")}
`,
  join(folder, "drover.yaml"),
);
const before = rssMib();
const shepherd = await startShepherd(configuration, pino({ level: "silent" }), (claim) => {
  const connection = world.connect(claim);
  return { hosts: connection.hosts, clock, close: async () => connection.cut() };
});
const cpu = process.cpuUsage();
const began = performance.now();
// What nothing else can happen in: the simulated hosts answer in it too.
const held = monitorEventLoopDelay({ resolution: 10 });
held.enable();
await clock.sleep(watchedMs);
held.disable();
const used = process.cpuUsage(cpu);
const cpuPercent = (used.user + used.system) / 10 / (performance.now() - began);
const longestHoldMs = held.max / 1e6;
const p99HoldMs = held.percentile(99) / 1e6;
const atRestMib = rssMib();
const hold = await measureHolds();
console.log(
  JSON.stringify({
    count,
    ...hold,
    rssMib: atRestMib,
    beforeMib: before,
    cpuPercent,
    longestHoldMs,
    p99HoldMs,
  }),
);
await shepherd.stop();
rmSync(folder, { recursive: true });
process.exit(0);

/** Holds and lifts over the API's socket while askers ask for other sizes, each again as soon as it is answered. */
async function measureHolds(): Promise<{
  readonly holdP50Ms: number;
  readonly holdMaxMs: number;
  readonly asksAnswered: number;
}> {
  const client = new ShepherdClient({ endpoint: `unix:${configuration.socket}` });
  let asksAnswered = 0;
  let isOver = false;
  const askers = Array.from({ length: askerCount }, async (_, asker) => {
    for (let n = 0; !isOver; n += 1) {
      await client.call("POST", "/v1/requests", {
        body: {
          method: "resize",
          environment: "ring",
          machine: `m-${(asker + n * askerCount) % count}`,
          params: { memory_mib: 65 + (n % 60) },
        },
      });
      asksAnswered += 1;
    }
  });
  const times: number[] = [];
  for (let n = 0; n < holdCount; n += 1) {
    await clock.sleep(100);
    const begunMs = performance.now();
    await client.call("PUT", "/v1/hold", { body: { scope: "everything", reason: "bench" } });
    times.push(performance.now() - begunMs);
    await client.call("DELETE", "/v1/hold");
  }
  isOver = true;
  await Promise.all(askers);
  times.sort((left, right) => left - right);
  return { holdP50Ms: times[holdCount >> 1] ?? 0, holdMaxMs: times.at(-1) ?? 0, asksAnswered };
}

function domainOf(n: number): DomainData {
  const nowMs = clock.nowMs();
  return {
    id: idOf(n),
    name: `drover-ring-m-${n}`,
    spec: undefined,
    mark: { environmentId: "ring", owner: "alice", epoch: 0 },
    state: "running",
    vcpus: 1,
    vcpusMax: 1,
    cpuPercent: 10,
    memoryMaxMib: 128,
    askedMib: 64,
    memory: { fromMib: 64, toMib: 64, sinceMs: nowMs },
    cpuTime: { beforeMs: 0, sinceMs: nowMs },
    bootId: `boot-${n}`,
    bootedAtMs: nowMs,
    diskContent: "",
    job: "none",
  };
}

function recordOf(n: number): MachineRecord {
  const size = { vcpus: 1, cpuPercent: 10, memoryMib: 64 };
  return {
    ...common,
    kind: "machine",
    id: idOf(n),
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
      siteId: "north",
      hostId: hostOf(n),
      state: "running",
      ceiling: { vcpus: 1, memoryMib: 128 },
      nics: [],
    },
  };
}
