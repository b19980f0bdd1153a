/**
 * What `make bench-migration` prints of its raw data: tables with ratios to the rival and to the physical floor, errors of
 * predictions, goals met or missed, and a time line of one environment's move as a picture. Pure.
 */
import { goalRows } from "./goals.ts";
import {
  type EnvironmentRun,
  type Figures,
  leastSamples,
  leastStopMs,
  type MachineRun,
  onceBytes,
  type Results,
} from "./results.ts";
import { medianOf, percentile, table, text } from "./tables.ts";

const mib = 2 ** 20;

export function renderMarkdown(results: Results): string {
  return [
    `At most ${results.runs} runs, ${results.memoryMib} MiB of memory, an image of ${results.imageMib} MiB, ${results.rateMbps} Mbit/s between the sites, begun ${results.startedAt}.`,
    `Load average on ${results.cores} cores at the ends of cells: median ${text(medianOf(results.loadAverages), 1)}, at most ${text(Math.max(...results.loadAverages), 1)}.`,
    ...(results.leftOut.length === 0 ? [] : ["", `Left out: ${results.leftOut.join("; ")}.`]),
    ...(results.failures.length === 0 ? [] : ["", `Failed: ${results.failures.join("; ")}.`]),
    "",
    "### One machine (E1)",
    "",
    ...machineTable(results),
    "",
    `### An environment of ${results.machineCount} (E2)`,
    "",
    ...environmentTable(results),
    "",
    "### Predictions (E3)",
    "",
    ...predictionLines(results),
    "",
    "### Goals",
    "",
    ...goalTable(results),
    "",
  ].join("\n");
}

function goalTable(results: Results): string[] {
  const rows = goalRows(results);
  return rows.length === 0 ? ["Not measured."] : table(["goal", "at most", "found", ""], rows);
}

function machineTable(results: Results): string[] {
  if (results.machines.length === 0) return ["Not measured."];
  const once = onceBytes(results);
  const floorMs = (once * 8) / (results.rateMbps * 1_000);
  const switchMs = leastStopMs(results);
  const cells = [
    ...new Map(
      results.machines.map(({ load, rttMs }) => [`${load} ${rttMs}`, { load, rttMs }] as const),
    ).values(),
  ];
  const rows = cells.map(({ load, rttMs }) => {
    const of = (who: MachineRun["who"]) =>
      results.machines.filter((run) => run.who === who && run.load === load && run.rttMs === rttMs);
    const [all, rivals] = [of("drover"), of("virsh")];
    const [ours, theirs] = [all.filter(({ ended }) => ended), rivals.filter(({ ended }) => ended)];
    const middle = (runs: readonly MachineRun[], of: (run: MachineRun) => number) =>
      medianOf(runs.map(of));
    const stop = middle(ours, (run) => run.downtimeMs);
    const bytes = middle(ours, (run) => run.sentBytes);
    const copy = medianOf(ours.flatMap(({ copyMs }) => copyMs ?? []));
    const wrote = middle(all, (run) => run.wroteMibPerS) / (results.rateMbps / 8.388608);
    return [
      typeof load === "number" ? `writes at ${load} (did ${text(wrote, 2)})` : load,
      `${rttMs} ms`,
      ended(ours.length, all),
      text(middle(ours, (run) => run.tookMs) / 1_000, 2),
      text(floorMs / copy, 2),
      text(bytes / mib, 1),
      text(bytes / middle(theirs, (run) => run.sentBytes), 2),
      `${text(stop)} / ${text(
        percentile(
          ours.map((run) => run.downtimeMs),
          0.99,
        ),
      )}`,
      text(stop / (switchMs + rttMs), 1),
      text(stop / middle(theirs, (run) => run.downtimeMs), 2),
      text(medianOf(ours.map((run) => run.peerSilenceMs ?? Number.NaN).filter(Number.isFinite))),
      ended(theirs.length, rivals),
    ];
  });
  return [
    ...table(
      [
        "guest",
        "RTT",
        "moved",
        "took s",
        "efficiency",
        "MiB sent",
        "bytes / virsh",
        "stop ms p50 / p99",
        "stop / floor",
        "stop / virsh",
        "silence at a peer ms",
        "virsh moved",
      ],
      rows,
    ),
    "",
    `Efficiency: ${text(once / mib, 1)} MiB, the least that any move sent, at the line's rate, over the time of the copy. Floor of the stop: ${text(switchMs)} ms, the shortest of all at no delay, and one round trip.`,
    whereTimeGoes(results),
  ];
}

/** A move of ours is longer than its copy: by what. */
function whereTimeGoes({ machines }: Results): string {
  const ours = machines.filter(({ who, ended }) => who === "drover" && ended);
  const of = (isOfIt: (name: string) => boolean) =>
    text(
      medianOf(
        ours.map(({ steps }) =>
          steps
            .filter(({ name }) => isOfIt(name))
            .reduce((sum, { fromMs, toMs }) => sum + (toMs - fromMs) / 1_000, 0),
        ),
      ),
      1,
    );
  const [isLook, isCopy] = [
    (name: string) => name.startsWith("look ahead"),
    (name: string) => name.includes(": copy and switch"),
  ];
  return `Where the time of our moves goes (medians): looking ahead ${of(isLook)} s, copy and switch ${of(isCopy)} s, all other steps ${of((name) => !isLook(name) && !isCopy(name))} s.`;
}

function environmentTable(results: Results): string[] {
  if (results.environments.length === 0) return ["Not measured."];
  const names = [...new Set(results.environments.map(({ who }) => who))];
  const rows = names.map((who) => {
    const runs = results.environments.filter((run) => run.who === who);
    return [
      who,
      `${runs.filter((run) => run.ended).length} of ${runs.length}`,
      text(medianOf(runs.map(({ tookMs }) => tookMs)) / 1_000, 1),
      text(medianOf(runs.map(({ splitMs }) => splitMs)) / 1_000, 1),
      text(medianOf(runs.map(({ sentBytes }) => sentBytes)) / mib, 0),
      runs.every(({ brokenConnections }) => brokenConnections === undefined)
        ? "-"
        : String(runs.reduce((sum, run) => sum + (run.brokenConnections ?? 0), 0)),
      text(Math.max(...runs.map((run) => run.longestSilenceMs ?? Number.NaN)) / 1_000, 1),
    ];
  });
  const bytes = (who: EnvironmentRun["who"]) =>
    medianOf(results.environments.filter((run) => run.who === who).map((run) => run.sentBytes));
  const share = bytes("drover") / bytes("virsh one by one");
  const withImage = (bytes("drover") + results.imageMib * mib) / bytes("virsh one by one");
  return [
    ...table(
      ["who", "moved", "took s", "parted s", "MiB sent", "broken connections", "longest silence s"],
      rows,
    ),
    "",
    `Bytes against plain: ${text(share, 2)}; ${text(withImage, 2)} with the image, which the other site got once before the first move.`,
  ];
}

function predictionLines(results: Results): string[] {
  const told = results.machines.filter(
    (run) => run.ended && run.samples >= leastSamples && run.predicted?.band !== undefined,
  );
  if (told.length === 0) return ["No move was predicted from three measured ones."];
  const of = (figure: keyof Figures) => {
    const errors = told.map(
      ({ predicted, measured }) =>
        Math.abs((predicted?.[figure] ?? 0) - (measured?.[figure] ?? 0)) /
        Math.max(1, measured?.[figure] ?? 1),
    );
    const within = told.filter(({ predicted, measured }) => {
      const [low, high] = predicted?.band?.[figure] ?? [0, 0];
      const value = measured?.[figure] ?? 0;
      return value >= low && value <= high;
    });
    return {
      error: errors.reduce((sum, one) => sum + one, 0) / errors.length,
      worst: Math.max(...errors),
      within: within.length / told.length,
    };
  };
  const percent = (value: number) => `${(value * 100).toFixed(0)} %`;
  const rows = (["duration_ms", "bytes", "downtime_ms"] as const).map((figure) => {
    const { error, worst, within } = of(figure);
    return [figure, percent(error), percent(worst), `${percent(within)} of ${told.length}`];
  });
  const spread = medianSpread(results);
  return [
    ...table(["figure", "mean error", "worst", "inside the stated band"], rows),
    "",
    `Spread of repeated runs (time, middle of the cells): ${Number.isFinite(spread) ? percent(spread) : "-"}.`,
  ];
}

/** Largest over smallest of a cell's runs, less one. */
function medianSpread({ machines }: Results): number {
  const cells = new Map<string, number[]>();
  for (const run of machines) {
    if (run.who !== "drover" || !run.ended) continue;
    const key = `${run.load} ${run.rttMs}`;
    cells.set(key, [...(cells.get(key) ?? []), run.tookMs]);
  }
  const spreads = [...cells.values()]
    .filter((times) => times.length > 1)
    .map((times) => Math.max(...times) / Math.min(...times) - 1);
  return medianOf(spreads);
}

/** Each machine a row, each of its steps a bar; the first environment of ours that moved. */
export function renderTimeline({ environments }: Results): string {
  const run = environments.find((one) => one.who === "drover" && one.steps.length > 0);
  if (run === undefined) return "";
  const steps = run.steps.filter(({ toMs }) => toMs > 0);
  const startMs = Math.min(...steps.map(({ fromMs }) => fromMs));
  const endMs = Math.max(...steps.map(({ toMs }) => toMs));
  const names = [...new Set(steps.map(({ name }) => name.split(": ")[0] ?? name))];
  const width = 900;
  const left = 120;
  const rowHeight = 30;
  const x = (ms: number) =>
    left + ((ms - startMs) / Math.max(1, endMs - startMs)) * (width - left - 10);
  const height = names.length * rowHeight + 50;
  const bars = steps.map(({ name, fromMs, toMs }) => {
    const row = names.indexOf(name.split(": ")[0] ?? name);
    const w = Math.max(1, x(toMs) - x(fromMs));
    return `<rect x="${x(fromMs).toFixed(1)}" y="${row * rowHeight + 24}" width="${w.toFixed(1)}" height="20" fill="${colourOf(name)}"><title>${escape(name)}: ${toMs - fromMs} ms</title></rect>`;
  });
  const labels = names.map(
    (name, row) => `<text x="4" y="${row * rowHeight + 39}">${escape(name.slice(0, 18))}</text>`,
  );
  const ticks = Array.from({ length: 11 }, (_, index) => {
    const ms = startMs + ((endMs - startMs) * index) / 10;
    return `<text x="${x(ms).toFixed(0)}" y="14" text-anchor="middle">${((ms - startMs) / 1_000).toFixed(1)} s</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">`,
    `<title>One environment moves: grey looks and prepares, orange copies the disk, blue copies memory and switches, green cleans up</title>`,
    ...ticks,
    ...labels,
    ...bars,
    `<text x="4" y="${height - 8}">grey: look and prepare; orange: disk; blue: memory and switch; green: clean up</text>`,
    "</svg>",
    "",
  ].join("\n");
}

function colourOf(step: string): string {
  if (step.includes("copy and switch")) return "#3b6fb6";
  if (step.includes("disk on") || step.includes("freeze")) return "#e08a2c";
  if (/forwarding|leave|remove|arrived|fold/.test(step)) return "#4c9f5a";
  return "#9aa0a6";
}

function ended(count: number, all: readonly { readonly why?: string | undefined }[]): string {
  const whys = [...new Set(all.flatMap(({ why }) => why ?? []))];
  return `${count} of ${all.length}${whys.length === 0 ? "" : ` (${whys.join(", ")})`}`;
}

function escape(textOf: string): string {
  return textOf.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
