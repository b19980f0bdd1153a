/** What `make bench-migration` prints: whoever ends it early, or whose cells fail, still reads true tables. */
import { expect, test } from "@jest/globals";
import { renderMarkdown, renderTimeline } from "./report.ts";
import type { MachineRun, Results } from "./results.ts";

const nothing: Results = {
  rateMbps: 200,
  memoryMib: 128,
  imageMib: 160,
  runs: 3,
  startedAt: "2026-11-23T22:00:00.000Z",
  machineCount: 4,
  cores: 2,
  loadAverages: [],
  leftOut: ["raising 4 machines and all after it (SIGINT)"],
  failures: ["run 1, idle at 0 ms: no guest"],
  machines: [],
  environments: [],
};
const ours: MachineRun = {
  who: "drover",
  load: "idle",
  rttMs: 0,
  run: 0,
  ended: true,
  why: undefined,
  tookMs: 10_000,
  copyMs: 8_000,
  sentBytes: 128 * 2 ** 20,
  downtimeMs: 200,
  peerSilenceMs: 210,
  predicted: undefined,
  measured: undefined,
  samples: 0,
  wroteMibPerS: 0,
  steps: [
    { name: "look ahead of the move", fromMs: 0, toMs: 1_500, outcome: null },
    { name: "rank-0: copy and switch to south-1", fromMs: 1_500, toMs: 9_500, outcome: null },
    { name: "rank-0: arrived", fromMs: 9_500, toMs: 10_000, outcome: null },
  ],
};
const theirs: MachineRun = { ...ours, who: "virsh", downtimeMs: 400, steps: [] };

test("nothing measured is said, with what was left out and what failed", () => {
  const said = renderMarkdown(nothing);
  expect(said).toContain("Left out: raising 4 machines and all after it (SIGINT).");
  expect(said).toContain("Failed: run 1, idle at 0 ms: no guest.");
  expect(said).not.toMatch(/NaN|Infinity|undefined/);
  expect(renderTimeline(nothing)).toBe("");
});

test("a row sets ours beside the rival and the floor", () => {
  const said = renderMarkdown({ ...nothing, machines: [ours, theirs] });
  expect(said).toContain(
    "| idle | 0 ms | 1 of 1 | 10.00 | 0.67 | 128.0 | 1.00 | 200 / 200 | 1.0 | 0.50 | 210 | 1 of 1 |",
  );
  expect(said).toContain("looking ahead 1.5 s, copy and switch 8.0 s, all other steps 0.5 s");
});

test("a stop that the guest's clock could not tell from noise is no floor, and nothing is divided by it", () => {
  const said = renderMarkdown({
    ...nothing,
    machines: [{ ...ours, downtimeMs: 0 }, ours, { ...theirs, downtimeMs: 0 }],
  });
  expect(said).toContain("Floor of the stop: 200 ms");
  expect(said).not.toMatch(/NaN|Infinity/);
});

test("half a cell keeps its half, and the rival is told as not measured", () => {
  const said = renderMarkdown({ ...nothing, machines: [ours] });
  expect(said).toContain("| 200 / 200 | 1.0 | - | 210 | 0 of 0 |");
});

test("a goal is met, or missed by so much; of what was not measured nothing is said", () => {
  const said = renderMarkdown({
    ...nothing,
    machines: [ours, theirs, { ...ours, rttMs: 50, downtimeMs: 360 }, { ...theirs, rttMs: 50 }],
  });
  expect(said).toContain(
    "| stop / `virsh`'s, median of the guests | 0.70 | 0.90 | missed by 29 % |",
  );
  expect(said).toContain("| stop / its floor, median | 1.50 | 1.44 | met |");
  expect(said).not.toContain("connections broken | 0.00");
  expect(renderMarkdown(nothing)).not.toContain("| met |");
});
