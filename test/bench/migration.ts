/**
 * `make bench-migration` (root): moves across a WAN, ours beside `virsh migrate --copy-storage-all` of twins, interleaved in
 * one run. Experiments E1 (one machine: idle, web-like, writing at three rates), E2 (an environment of four: ours, one after
 * the other, all at once) and E3 (what was predicted of each). RUNS=3 by default, RUNS=20 is the campaign, QUICK=1 a first
 * look in minutes; MINUTES=27 is when it ends by itself, with what was measured until then (a campaign needs more).
 *
 * Run by run through the whole matrix, so that whoever ends it early has a whole matrix of fewer runs. Raw data, tables and
 * picture are written after every cell to `out/bench/`, and with WRITE=1 to docs/; the tables are printed at the end.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { changeWan } from "@drover/shepherd/lab/wan-control";
import { type MovingStage, openMovingStage } from "../lab/moving-stage.ts";
import { ourEnvironment, rivalEnvironment } from "./moves/environment.ts";
import { guardLab, takeDown } from "./moves/lab-guard.ts";
import { type Load, prepareGuest, startLoad } from "./moves/loads.ts";
import { type Found, otherHost, ourMove, rivalMove } from "./moves/one-machine.ts";
import { renderMarkdown, renderTimeline } from "./moves/report.ts";
import type { EnvironmentRun, Results } from "./moves/results.ts";
import { raiseTwin, type Twin } from "./moves/rival.ts";

const minuteMs = 60_000;
const isQuick = process.env["QUICK"] === "1";
const runs = Number(process.env["RUNS"] ?? (isQuick ? 1 : 3));
const endsAtMs = performance.now() + Number(process.env["MINUTES"] ?? 27) * minuteMs;
const name = process.env["DROVER_LAB"] ?? "bmig";
/** What the WAN carries; small, so that an emulated guest can write faster than it. */
const rateMbps = 200;
const bytesPerS = (rateMbps * 1e6) / 8;
const memoryMib = 128;
/** A small image of a distribution: what is copied with each machine by whoever does not know that it is there already. */
const unreadImageMib = 160;
const rtts = isQuick ? [0, 50] : [0, 50, 150];
const environmentRttMs = 50;
const loads: readonly Load[] = isQuick ? ["idle", 0.25] : ["idle", "web", 0.25, 0.7];
const hopelessRho = 1.2;
/** Of the environment; fewer only to try the bench itself. */
const machineCount = Number(process.env["MACHINES"] ?? 4);
/** A rival that has not ended by then does not end. */
const rivalPatienceMs = minuteMs;
const hopelessPatienceMs = minuteMs / 2;
/** Nothing is begun that may not end in time. */
const [cellMs, hopelessMs, environmentMs] = [minuteMs, 2 * minuteMs, 4 * minuteMs];
/** For what was begun in time and takes longer. */
const graceMs = 2 * minuteMs;
/** Of cells; after so many something is wrong with all of it. */
const mostFailures = 3;

const results: Results = {
  rateMbps,
  memoryMib,
  imageMib: unreadImageMib,
  runs,
  startedAt: new Date().toISOString(),
  machineCount,
  cores: cpus().length,
  loadAverages: [],
  leftOut: [],
  failures: [],
  machines: [],
  environments: [],
};
let isOver = false;
let stage: MovingStage;
const twins: Twin[] = [];
/** What runs now, for whoever cuts it off. */
let doing = `raising ${machineCount} machines`;

/** Resolves when somebody asks for the end, and when the time is long over: what runs then is left as it is and not told. */
const cutOff = Promise.withResolvers<void>();
let askedAtMs: number | undefined;
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const) {
  process.on(signal, () => {
    // A Ctrl-C may come twice, by the terminal and by `make`. Who asks again later cannot wait: the guard tidies up.
    if (askedAtMs !== undefined && performance.now() - askedAtMs > 2_000) process.exit(code);
    if (askedAtMs !== undefined) return;
    askedAtMs = performance.now();
    process.exitCode = code;
    results.leftOut.push(`${doing} and all after it (${signal})`);
    cutOff.resolve();
  });
}
setTimeout(
  () => {
    results.leftOut.push(`${doing}, which took too long`);
    cutOff.resolve();
  },
  endsAtMs + graceMs - performance.now(),
);

const dismissGuard = guardLab(name);
try {
  await Promise.race([measure(), cutOff.promise]);
} catch (error) {
  failed(doing, error);
}
save();
isOver = true;
console.log(
  `\n${renderMarkdown(results)}\n${isEmpty() ? "nothing was measured" : `raw data: ${folders().join(", ")}`}`,
);
if (isEmpty()) process.exitCode ??= 1;
await takeDown(name);
await dismissGuard();
// What was left as it was would hold this process.
process.exit();

async function measure(): Promise<void> {
  console.log(`  ${doing}`);
  stage = await openMovingStage({
    name,
    ranks: machineCount,
    memoryMib,
    unreadImageMib,
    cpuPercent: 60,
    // One roomy host a site: the twins count as foreign machines there.
    sites: ["north", "south"].map((id) => ({
      id,
      owner: id,
      hosts: [{ id: `${id}-1`, lend: { cpuPercent: 1_600, memoryMib: 4_096, diskGib: 16 } }],
    })),
    wan: `north:south=0ms,${rateMbps}mbit`,
  });
  try {
    for (let index = 0; index < machineCount; index += 1) {
      doing = `raising twin ${index + 1} of ${machineCount}`;
      console.log(`  ${doing}`);
      twins.push(await raiseTwin(stage, index, "north-1"));
    }
    doing = "preparing the guests";
    const own = Array.from({ length: machineCount }, (_, index) => stage.rank(index));
    await Promise.all([...twins.map((twin) => twin.guest), ...own].map(prepareGuest));
    for (let run = 0; run < runs; run += 1) await oneRun(run);
  } finally {
    await stage.end();
  }
}

async function oneRun(run: number): Promise<void> {
  for (const rttMs of rtts) {
    await lieApart(rttMs);
    for (const load of loads) {
      const what = `run ${run + 1}, ${load} at ${rttMs} ms`;
      await inTime(what, cellMs, () => moveOne({ load, rttMs, run, patienceMs: rivalPatienceMs }));
    }
    // Once for each delay: ours ends within its budget, the rival is given up.
    if (run === 0 && !isQuick) {
      const cell = { load: hopelessRho, rttMs, run, patienceMs: hopelessPatienceMs };
      await inTime(`${hopelessRho} at ${rttMs} ms`, hopelessMs, () => moveOne(cell));
    }
  }
  await lieApart(environmentRttMs);
  await inTime(`run ${run + 1} of the environment`, environmentMs, () => moveAll(run));
}

/** One cell: ours and the twin, who begins changing from run to run. */
async function moveOne(cell: {
  readonly load: Load;
  readonly rttMs: number;
  readonly run: number;
  readonly patienceMs: number;
}): Promise<void> {
  const [twin] = twins;
  if (twin === undefined) throw new Error("no twin");
  const { load, rttMs, run, patienceMs } = cell;
  const writing = { load, bytesPerS };
  const ours = await startLoad(stage.rank(0), writing);
  const theirs = await startLoad(twin.guest, writing);
  const moves = [
    () => ourMove(stage, { load, rttMs }),
    () => rivalMove(stage, twin, { load, rttMs, patienceMs }),
  ];
  const found: Found[] = [];
  try {
    for (const move of run % 2 === 0 ? moves : moves.toReversed()) {
      const one = await move();
      tell(one);
      found.push(one);
    }
  } finally {
    const wrote = { drover: await ours.stop(), virsh: await theirs.stop() };
    for (const one of found) results.machines.push({ ...one, run, wroteMibPerS: wrote[one.who] });
  }
}

/** All machines of ours there and back; twins there one after the other, and back all at once. */
async function moveAll(run: number): Promise<void> {
  await bringTogether();
  const [from, to] = ["north-1", "south-1"];
  const patienceMs = 2 * rivalPatienceMs;
  environmentTold({ run, ...(await ourEnvironment(stage, { from, site: "south" })) });
  for (const [who, where] of [
    ["virsh one by one", to],
    ["virsh all at once", from],
  ] as const) {
    const rival = await rivalEnvironment(stage, twins, { who, to: where, patienceMs });
    environmentTold({ run, ...rival });
  }
  environmentTold({ run, ...(await ourEnvironment(stage, { from: to, site: "north" })) });
}

/** To where they all began: single moves, and those that failed, leave them apart. */
async function bringTogether(): Promise<void> {
  const places = await stage.places();
  if (places.some((host) => host !== "north-1")) await stage.move({ site: "north" });
  for (const twin of twins) {
    if (twin.at() !== "north-1") await twin.move(otherHost(twin.at()), rivalPatienceMs);
  }
}

async function lieApart(rttMs: number): Promise<void> {
  await changeWan({ name }, ["north", "south"], (path) => ({ ...path, rttMs }));
}

/** A cell that fails is told and left behind: the next one looks anew where everything is. */
async function inTime(what: string, takesMs: number, work: () => Promise<void>): Promise<void> {
  if (isOver) return;
  if (performance.now() + takesMs > endsAtMs) {
    results.leftOut.push(what);
    return;
  }
  doing = what;
  try {
    await work();
  } catch (error) {
    failed(what, error);
    if (results.failures.length >= mostFailures)
      throw new Error("too much failed", { cause: error });
  }
  results.loadAverages.push(loadavg()[0] ?? Number.NaN);
  save();
}

function failed(what: string, error: unknown): void {
  if (isOver) return;
  const why = error instanceof Error ? error.message : String(error);
  results.failures.push(`${what}: ${why}`);
  console.error(`  FAILED ${what}: ${why}`);
  process.exitCode ??= 1;
}

function tell(found: Found): void {
  if (isOver) return;
  const what = `${found.who.padEnd(7)} ${String(found.load).padEnd(4)} rtt ${found.rttMs} ms`;
  const end = found.ended ? "" : ` NOT MOVED (${found.why})`;
  console.log(
    `  ${what}: ${seconds(found.tookMs)}, ${(found.sentBytes / 2 ** 20).toFixed(1)} MiB, stopped ${found.downtimeMs} ms${end}`,
  );
}

function environmentTold(found: EnvironmentRun): void {
  if (isOver) return;
  results.environments.push(found);
  console.log(
    `  environment: ${found.who} ${seconds(found.tookMs)}, parted ${seconds(found.splitMs)}${found.ended ? "" : " NOT MOVED"}`,
  );
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}

function folders(): readonly string[] {
  return ["out/bench", ...(process.env["WRITE"] === "1" ? ["docs/measurements"] : [])];
}

function isEmpty(): boolean {
  return results.machines.length + results.environments.length === 0;
}

function save(): void {
  if (isOver || isEmpty()) return;
  for (const folder of folders()) {
    const path = join(import.meta.dirname, "../..", folder);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "migration.json"), `${JSON.stringify(results, undefined, 1)}\n`);
    writeFileSync(join(path, "migration.md"), renderMarkdown(results));
    const picture = renderTimeline(results);
    if (picture !== "") writeFileSync(join(path, "migration.svg"), picture);
  }
}
