/** What is told of an operation that runs: phase, percent, pace and time left, once something can be said of them. */
import { paceOf, progressTeller } from "@drover/provider/resources/progress";
import { expect, test } from "@jest/globals";

test.each([
  ["nothing at the first look", { atMs: 0, percent: 10 }, { atMs: 0, percent: 10 }, ""],
  ["nothing while it stands", { atMs: 0, percent: 10 }, { atMs: 5000, percent: 10 }, ""],
  [
    "its pace and what is left",
    { atMs: 0, percent: 10 },
    { atMs: 4000, percent: 40 },
    ", 7.5 %/s, about 8 s left",
  ],
  [
    "a slow pace with its digits",
    { atMs: 0, percent: 0 },
    { atMs: 60_000, percent: 2 },
    ", 0.033 %/s, about 2940 s left",
  ],
  ["nothing at the end", { atMs: 0, percent: 10 }, { atMs: 4000, percent: 100 }, ""],
])("it tells %s", (_, first, now, said) => {
  expect(paceOf(first, now)).toBe(said);
});

test("each change of an operation is a line that opens with what is done", () => {
  const lines: string[] = [];
  let nowMs = 0;
  const tell = progressTeller({ log: (line) => lines.push(line) }, 'move machine "m"', () => nowMs);
  const progress = (percent: number, message: string) => ({ percent, message });
  tell({ id: "o", state: "running", progress: progress(0, "copying disk") });
  nowMs = 2000;
  tell({ id: "o", state: "running", progress: progress(50, "copying memory") });
  tell({ id: "o", state: "succeeded", progress: progress(100, "succeeded") });
  expect(lines).toEqual([
    'move machine "m": 0 % copying disk',
    'move machine "m": 50 % copying memory, 25 %/s, about 2 s left',
    'move machine "m": 100 % succeeded',
  ]);
});
