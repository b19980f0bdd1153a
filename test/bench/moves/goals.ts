/** The goals that `make bench-migration` is held against, each beside what was found. Pure. */
import {
  type Figures,
  leastSamples,
  leastStopMs,
  type MachineRun,
  onceBytes,
  type Results,
} from "./results.ts";
import { medianOf } from "./tables.ts";

interface Goal {
  readonly of: string;
  readonly atMost: number;
  readonly found: number;
}

/** Goal, bound, finding and verdict; nothing of what was not measured. */
export function goalRows(results: Results): readonly (readonly string[])[] {
  return goalsOf(results)
    .filter(({ found }) => Number.isFinite(found))
    .map(({ of, atMost, found }) => [
      of,
      atMost.toFixed(2),
      found.toFixed(2),
      found <= atMost ? "met" : missed(found, atMost),
    ]);
}

function missed(found: number, atMost: number): string {
  return atMost === 0 ? "missed" : `missed by ${((found / atMost - 1) * 100).toFixed(0)} %`;
}

function goalsOf(results: Results): readonly Goal[] {
  const { machines, environments } = results;
  const ours = machines.filter(({ who, ended }) => who === "drover" && ended);
  const cells = [...Map.groupBy(machines, ({ load, rttMs }) => `${load} ${rttMs}`).values()];
  const besideRival = cells.map(stopBesideRival).filter(Number.isFinite);
  const floorMs = leastStopMs(results);
  const stops = ours.map(({ downtimeMs, rttMs }) => downtimeMs / (floorMs + rttMs));
  const bytes = (who: string) =>
    medianOf(environments.filter((run) => run.who === who).map(({ sentBytes }) => sentBytes));
  const broken = environments.flatMap(({ brokenConnections }) => brokenConnections ?? []);
  return [
    { of: "stop / `virsh`'s, median of the guests", atMost: 0.7, found: medianOf(besideRival) },
    { of: "stop / `virsh`'s, worst guest", atMost: 0.7, found: Math.max(...besideRival) },
    { of: "stop / its floor, median", atMost: 1.5, found: medianOf(stops) },
    { of: "time of the copy / floor, idle", atMost: 1 / 0.92, found: copyOverFloor(results, ours) },
    {
      of: "bytes / plain, environment",
      atMost: 0.5,
      found: bytes("drover") / bytes("virsh one by one"),
    },
    { of: "connections broken", atMost: 0, found: broken.length === 0 ? Number.NaN : sum(broken) },
    ...(["duration_ms", "bytes"] as const).map((figure) => outside(ours, figure, 0.1)),
    outside(ours, "downtime_ms", 0.2),
  ];
}

/** Of one guest at one delay, medians. */
function stopBesideRival(runs: readonly MachineRun[]): number {
  const stop = (whose: string) =>
    medianOf(runs.filter(({ who, ended }) => who === whose && ended).map((run) => run.downtimeMs));
  const theirs = stop("virsh");
  return theirs === 0 ? Number.NaN : stop("drover") / theirs;
}

function copyOverFloor(results: Results, ours: readonly MachineRun[]): number {
  const floorMs = (onceBytes(results) * 8) / (results.rateMbps * 1_000);
  const idle = ours.filter(({ load }) => load === "idle");
  return medianOf(idle.flatMap(({ copyMs }) => copyMs ?? [])) / floorMs;
}

/** How many runs lay outside of the band that was stated before them. */
function outside(ours: readonly MachineRun[], figure: keyof Figures, atMost: number): Goal {
  const told = ours.filter(
    ({ samples, predicted }) => samples >= leastSamples && predicted?.band !== undefined,
  );
  const missing = told.filter(({ predicted, measured }) => {
    const [low, high] = predicted?.band?.[figure] ?? [0, 0];
    const value = measured?.[figure] ?? 0;
    return value < low || value > high;
  });
  return {
    of: `share of runs whose ${figure} lay outside of the stated band`,
    atMost,
    found: missing.length / told.length,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
