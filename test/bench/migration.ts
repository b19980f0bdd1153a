/**
 * `make bench-migration` (root): moves across a WAN, ours beside `virsh migrate --copy-storage-all` of twins, interleaved in
 * one run. Experiments E1 (one machine: idle, web-like, writing at three rates), E2 (an environment of four: ours, one after
 * the other, all at once) and E3 (what was predicted of each). RUNS=3 by default, RUNS=20 is the campaign, QUICK=1 a first
 * look in minutes. Prints tables; writes raw data, tables and a picture to `out/bench/`, and with WRITE=1 to docs/.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Explanation, StepView } from "@drover/shepherd/api/contract";
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";
import { changeWan } from "@drover/shepherd/lab/wan-control";
import { openMovingStage } from "../lab/moving-stage.ts";
import {
  type EnvironmentRun,
  type MachineRun,
  type Results,
  renderMarkdown,
  renderTimeline,
} from "./moves/report.ts";
import { raiseTwin, sentBytes, type Twin } from "./moves/rival.ts";

const isQuick = process.env["QUICK"] === "1";
const runs = Number(process.env["RUNS"] ?? (isQuick ? 1 : 3));
const name = process.env["DROVER_LAB"] ?? "bmig";
/** What the WAN carries; small, so that an emulated guest can write faster than it. */
const rateMbps = 100;
const bytesPerS = (rateMbps * 1e6) / 8;
const memoryMib = 128;
const rtts = isQuick ? [0, 50] : [0, 50, 150];
/** Share of the line's rate that the guest dirties. `web`: in bursts, reading in between. */
const loads = isQuick ? (["idle", 0.25] as const) : (["idle", "web", 0.25, 0.7] as const);
const hopelessRho = 1.2;
/** Of the environment; fewer only to try the bench itself. */
const machineCount = Number(process.env["MACHINES"] ?? 4);
/** A rival that has not ended by then does not end. */
const rivalPatienceMs = 90_000;
const diskWrittenMib = 12;
/** The writer goes round in so much memory; a round takes longer than any stop that is allowed. */
const arenaMib = 24;

type Load = "idle" | "web" | number;

const results: Results = {
  rateMbps,
  memoryMib,
  runs,
  startedAt: new Date().toISOString(),
  machines: [],
  environments: [],
};
const stage = await openMovingStage({
  name,
  ranks: machineCount,
  memoryMib,
  cpuPercent: 60,
  // One roomy host a site: the twins count as foreign machines there.
  sites: ["north", "south"].map((id) => ({
    id,
    owner: id,
    hosts: [{ id: `${id}-1`, lend: { cpuPercent: 1_600, memoryMib: 4_096, diskGib: 16 } }],
  })),
  wan: `north:south=0ms,${rateMbps}mbit`,
});
const twins: Twin[] = [];
try {
  for (let index = 0; index < machineCount; index += 1) {
    console.log(`  raising twin ${index + 1} of ${machineCount}`);
    twins.push(await raiseTwin(stage, index, "north-1"));
  }
  const own = Array.from({ length: machineCount }, (_, index) => stage.rank(index));
  await Promise.all([...twins.map((twin) => twin.guest), ...own].map(prepare));
  for (const rttMs of rtts) {
    await changeWan({ name }, ["north", "south"], (path) => ({ ...path, rttMs }));
    await experimentOne(rttMs);
    if (!isQuick) await hopeless(rttMs);
  }
  await changeWan({ name }, ["north", "south"], (path) => ({ ...path, rttMs: 50 }));
  await experimentTwo();
} finally {
  for (const twin of twins) await twin.remove();
  await stage.end();
  // What was measured before something failed is kept as well.
  if (results.machines.length > 0) report();
}

/** One machine, to and fro; ours and the twin in turn, the first of the two changing from round to round. */
async function experimentOne(rttMs: number): Promise<void> {
  const [twin] = twins;
  if (twin === undefined) throw new Error("no twin");
  for (const load of loads) {
    const stops = [await startLoad(stage.rank(0), load), await startLoad(twin.guest, load)];
    for (let round = 0; round < runs * 2; round += 1) {
      const [from, to] = await direction();
      const ours = () => ourMove({ load, rttMs, from, to });
      const theirs = () => rivalMove(twin, { load, rttMs, from, to });
      // Each way once makes one run: the sites are alike, their hosts are not.
      const isOurs = round % 2 === 0;
      for (const go of isOurs ? [ours, theirs] : [theirs, ours]) {
        const found = await go();
        results.machines.push({ ...found, run: Math.floor(round / 2) });
        tell(found);
      }
    }
    for (const stop of stops) await stop();
  }
}

/** A guest that writes faster than the line carries: ours ends within its budget, the rival is given up. */
async function hopeless(rttMs: number): Promise<void> {
  const [twin] = twins;
  if (twin === undefined) throw new Error("no twin");
  const stops = [
    await startLoad(stage.rank(0), hopelessRho),
    await startLoad(twin.guest, hopelessRho),
  ];
  const [from, to] = await direction();
  const found = await ourMove({ load: hopelessRho, rttMs, from, to });
  results.machines.push({ ...found, run: 0 });
  tell(found);
  // The twin has to be where the machine is, for the next round.
  const [now] = await stage.places();
  const site = now === "south-1" ? "south-1" : "north-1";
  const theirs = await rivalMove(twin, { load: hopelessRho, rttMs, from, to });
  results.machines.push({ ...theirs, run: 0 });
  tell(theirs);
  for (const stop of stops) await stop();
  const twinAt = theirs.ended ? to : from;
  if (twinAt !== site) await twin.move(twinAt, site, rivalPatienceMs);
}

/** Four machines: ours as one operation, then twins one after the other and all at once, each way by turns. */
async function experimentTwo(): Promise<void> {
  for (let run = 0; run < runs; run += 1) {
    const [from, to] = await direction();
    const talk = await startTalk();
    const before = await sentBytes(stage, from);
    const asked = await stage.move({ site: to.split("-")[0] ?? "" });
    const story = await stage.explain(asked.operation?.id ?? "");
    const steps = await stepsOf(asked.operation?.id ?? "");
    const ours: EnvironmentRun = {
      who: "drover",
      run,
      ended: asked.operation?.state === "succeeded",
      tookMs: asked.operation?.measured?.duration_ms ?? 0,
      sentBytes: (await sentBytes(stage, from)) - before,
      splitMs: splitOf(steps),
      brokenConnections: await talk.broken(),
      predicted: story.plan?.cost,
      steps: steps.map(({ name: step, started_at_ms, ended_at_ms }) => ({
        name: step,
        fromMs: started_at_ms ?? 0,
        toMs: ended_at_ms ?? 0,
      })),
    };
    results.environments.push(ours);
    console.log(`  environment: drover ${seconds(ours.tookMs)}, parted ${seconds(ours.splitMs)}`);
    for (const who of ["virsh one by one", "virsh all at once"] as const) {
      const [way, back] = who === "virsh one by one" ? [from, to] : [to, from];
      const rival = await rivalEnvironment(who, { run, from: way, to: back });
      results.environments.push(rival);
      console.log(
        `  environment: ${who} ${seconds(rival.tookMs)}, parted ${seconds(rival.splitMs)}`,
      );
    }
    // Twins are where they began; ours goes back alone.
    await stage.move({ site: from.split("-")[0] ?? "" });
  }
}

async function rivalEnvironment(
  who: "virsh one by one" | "virsh all at once",
  { run, from, to }: { readonly run: number; readonly from: string; readonly to: string },
): Promise<EnvironmentRun> {
  const before = await sentBytes(stage, from);
  const startedMs = performance.now();
  const ends: number[] = [];
  const move = async (twin: Twin) => {
    const { ended } = await twin.move(from, to, rivalPatienceMs * 2);
    ends.push(performance.now() - startedMs);
    return ended;
  };
  const ended: boolean[] = [];
  if (who === "virsh one by one") for (const twin of twins) ended.push(await move(twin));
  else ended.push(...(await Promise.all(twins.map(move))));
  return {
    who,
    run,
    ended: ended.every(Boolean),
    tookMs: performance.now() - startedMs,
    sentBytes: (await sentBytes(stage, from)) - before,
    splitMs: Math.max(...ends) - Math.min(...ends),
    brokenConnections: undefined,
    predicted: undefined,
    steps: [],
  };
}

interface Way {
  readonly load: Load;
  readonly rttMs: number;
  readonly from: string;
  readonly to: string;
}

async function ourMove(way: Way): Promise<Omit<MachineRun, "run">> {
  const guest = stage.rank(0);
  const peer = stage.rank(1);
  await guest.read("echo > /run/ticker.reset");
  await peer.read(
    "(pinger 10.42.0.10 100000 20 /run/pings >/dev/null 2>&1 & echo $! > /run/pinger.pid) ; true",
  );
  await pause(1_200);
  const before = await sentBytes(stage, way.from);
  const { operation } = await stage.move({ machine: "rank-0", site: way.to.split("-")[0] ?? "" });
  const sent = (await sentBytes(stage, way.from)) - before;
  await pause(1_000);
  const downtimeMs = await longestStop(guest);
  const silence = await peer.read(
    "kill -INT $(cat /run/pinger.pid) 2>/dev/null; sleep 0.5; tail -n 1 /run/pings",
  );
  const story: Explanation = await stage.explain(operation?.id ?? "");
  const [action] = story.plan?.actions ?? [];
  return {
    who: "drover",
    load: way.load,
    rttMs: way.rttMs,
    ended: operation?.state === "succeeded",
    why: operation?.fault?.code,
    tookMs: operation?.measured?.duration_ms ?? 0,
    copyMs: copyOf(await stepsOf(operation?.id ?? "")),
    sentBytes: sent,
    downtimeMs,
    peerSilenceMs: Number(silence.trim().split(/\s+/)[3] ?? Number.NaN),
    predicted: story.plan?.cost,
    measured: operation?.measured,
    samples: action?.kind === "move_machine" ? (action.basis?.samples ?? 0) : 0,
  };
}

async function rivalMove(twin: Twin, way: Way): Promise<Omit<MachineRun, "run">> {
  await twin.guest.read("echo > /run/ticker.reset");
  await pause(1_200);
  const before = await sentBytes(stage, way.from);
  const { ended, tookMs } = await twin.move(way.from, way.to, rivalPatienceMs);
  const sent = (await sentBytes(stage, way.from)) - before;
  await pause(1_000);
  return {
    who: "virsh",
    load: way.load,
    rttMs: way.rttMs,
    ended,
    why: ended ? undefined : "given up",
    tookMs,
    copyMs: undefined,
    sentBytes: sent,
    downtimeMs: await longestStop(twin.guest),
    peerSilenceMs: Number.NaN,
    predicted: undefined,
    measured: undefined,
    samples: 0,
  };
}

/** From where rank-0 is to the other site; the twin is always there too. */
async function direction(): Promise<readonly [string, string]> {
  const [at] = await stage.places();
  return at === "south-1" ? ["south-1", "north-1"] : ["north-1", "south-1"];
}

/** Something on its disk, and something in its memory that is not all zeros. */
async function prepare(guest: GuestShell): Promise<void> {
  await guest.read(
    [
      `head -c ${2 ** 20} /dev/urandom > /dev/shm/mib`,
      `for n in $(seq ${diskWrittenMib}); do cat /dev/shm/mib; done > /work/data; sync`,
      `for n in $(seq ${arenaMib}); do cat /dev/shm/mib; done > /dev/shm/arena`,
    ].join("\n"),
    { timeoutMs: 240_000 },
  );
}

/** Writes its arena round and round, so much in each tenth of a second; the load ends with the returned function. */
async function startLoad(guest: GuestShell, load: Load): Promise<() => Promise<void>> {
  if (load === "idle") return async () => undefined;
  const rho = load === "web" ? 0.05 : load;
  const kibPerTick = Math.max(1, Math.round((rho * bytesPerS) / 1024 / 10));
  const arenaKib = arenaMib * 1024;
  const rest = load === "web" ? "cat /work/seed.bin > /dev/null;" : "";
  const loop = [
    "at=0",
    "while [ -e /run/load ]; do",
    `dd if=/dev/shm/arena of=/dev/shm/arena bs=1024 skip=$at seek=$at count=${kibPerTick} conv=notrunc 2>/dev/null`,
    `at=$((at + ${kibPerTick})); [ $at -lt ${arenaKib - kibPerTick} ] || at=0`,
    `${rest} usleep 100000`,
    "done",
  ].join("\n");
  await guest.read(
    `touch /run/load; cat > /run/load.sh <<'LOAD'\n${loop}\nLOAD\n(sh /run/load.sh >/dev/null 2>&1 &); true`,
  );
  return async () => {
    await guest.read("rm -f /run/load");
  };
}

/** A ring of long connections; each end says once when its own breaks. */
async function startTalk(): Promise<{ broken: () => Promise<number> }> {
  const all = Array.from({ length: machineCount }, (_, index) => stage.rank(index));
  for (const rank of all) {
    await rank.read(
      "rm -f /run/ended /run/enough; (nc -l -p 7300 >/dev/null; echo closed > /run/ended) >/dev/null 2>&1 & true",
    );
  }
  for (const [index, rank] of all.entries()) {
    const next = `10.42.0.${10 + ((index + 1) % machineCount)}`;
    await rank.read(
      `(while [ ! -e /run/enough ]; do echo tick; sleep 0.2; done | nc ${next} 7300; echo broken > /run/ended) >/dev/null 2>&1 & true`,
    );
  }
  return {
    async broken() {
      let count = 0;
      for (const rank of all) if ((await rank.run("cat /run/ended")).stdout !== "") count += 1;
      for (const rank of all) await rank.read("touch /run/enough");
      await pause(1_000);
      return count;
    },
  };
}

async function stepsOf(operation: string): Promise<readonly StepView[]> {
  if (operation === "") return [];
  const { items } = await stage.client.get<{ items: StepView[] }>(
    `/v1/operations/${operation}/steps`,
  );
  return items;
}

/** From the first machine that is over to the last. */
function splitOf(steps: readonly StepView[]): number {
  const ends = steps
    .filter(({ name: step }) => step.includes(": copy and switch"))
    .map(({ ended_at_ms }) => ended_at_ms ?? 0);
  return ends.length === 0 ? 0 : Math.max(...ends) - Math.min(...ends);
}

function copyOf(steps: readonly StepView[]): number | undefined {
  const step = steps.find((one) => one.name.includes(": copy and switch"));
  const { copyMs } = (step?.outcome ?? {}) as { copyMs?: number };
  return copyMs;
}

async function longestStop(guest: GuestShell): Promise<number> {
  return Number((await guest.read("cat /run/ticker")).trim().split(/\s+/)[1]);
}

function tell(found: Omit<MachineRun, "run">): void {
  const what = `${found.who.padEnd(7)} ${String(found.load).padEnd(4)} rtt ${found.rttMs} ms`;
  const end = found.ended ? "" : ` NOT MOVED (${found.why})`;
  console.log(
    `  ${what}: ${seconds(found.tookMs)}, ${(found.sentBytes / 2 ** 20).toFixed(1)} MiB, stopped ${found.downtimeMs} ms${end}`,
  );
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}

function report(): void {
  const markdown = renderMarkdown(results);
  const folders = ["out/bench", ...(process.env["WRITE"] === "1" ? ["docs/measurements"] : [])];
  for (const folder of folders) {
    const path = join(import.meta.dirname, "../..", folder);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "migration.json"), `${JSON.stringify(results, undefined, 1)}\n`);
    writeFileSync(join(path, "migration.md"), markdown);
    writeFileSync(join(path, "migration.svg"), renderTimeline(results));
  }
  console.log(`\n${markdown}\nraw data: ${folders.join(", ")}`);
}
