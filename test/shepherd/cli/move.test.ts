import { untilMs } from "@drover/shepherd/cli/commands/move";
import { comparedText, predictedText } from "@drover/shepherd/cli/output";
import { expect, test } from "@jest/globals";

const noon = new Date(2026, 4, 3, 12, 0, 0).getTime();

test.each([
  ["13:30", new Date(2026, 4, 3, 13, 30).getTime()],
  ["08:00", new Date(2026, 4, 4, 8, 0).getTime()],
  ["12:00", new Date(2026, 4, 4, 12, 0).getTime()],
  ["30m", noon + 30 * 60_000],
  ["2026-05-05T06:00", new Date(2026, 4, 5, 6, 0).getTime()],
])("--by %s", (text, expected) => {
  expect(untilMs(text)(noon)).toBe(expected);
});

test.each(["25:00", "soon", "08:61", ""])("--by %p is no time", (text) => {
  expect(() => untilMs(text)).toThrow("Write a time such as 08:00");
});

const cost = { duration_ms: 3_200, bytes: 120 * 2 ** 20, downtime_ms: 61 };
const band = {
  duration_ms: [2_800, 4_000],
  bytes: [100 * 2 ** 20, 140 * 2 ** 20],
  downtime_ms: [40, 90],
} as const;

test("a prediction is told with its band, and compared with what was measured", () => {
  expect(predictedText({ ...cost, band })).toBe(
    "3.20 s (2.80 s to 4.00 s), 120 MiB copied (100 to 140), 61 ms down (40 to 90)",
  );
  expect(predictedText(cost)).toBe("3.20 s, 120 MiB copied, 61 ms down");
  expect(comparedText({ ...cost, band }, cost)).toBe("within the band");
  expect(comparedText({ ...cost, band }, { ...cost, duration_ms: 9_000, bytes: 1 })).toBe(
    "outside the band: time above, bytes below",
  );
});
