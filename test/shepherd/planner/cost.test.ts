import { defaultSiteRateMbps, measured, moveCost } from "@drover/shepherd/planner/cost";
import { expect, test } from "@jest/globals";

/** The rows of papers.md 2.4 (Td = 0.3 s, no compression), which the model must reproduce but for our set-up time. */
test.each([
  { memoryMib: 1024, rateMbps: 981, dirtyMibPerS: 5, seconds: 9.1, bytesRatio: 1.04 },
  { memoryMib: 1024, rateMbps: 981, dirtyMibPerS: 30, seconds: 11.7, bytesRatio: 1.34 },
  { memoryMib: 1024, rateMbps: 981, dirtyMibPerS: 80, seconds: 27.1, bytesRatio: 3.09 },
  { memoryMib: 512, rateMbps: 98, dirtyMibPerS: 1, seconds: 47.8, bytesRatio: 1.09 },
  { memoryMib: 65536, rateMbps: 9815, dirtyMibPerS: 300, seconds: 75.2, bytesRatio: 1.34 },
])("$memoryMib MiB over $rateMbps Mb/s, $dirtyMibPerS MiB/s dirtied", (row) => {
  const cost = moveCost({
    memoryMib: row.memoryMib,
    rateMbps: row.rateMbps,
    load: { diskAllocatedBytes: 0, dirtyMibPerS: row.dirtyMibPerS },
    maxDowntimeMs: 300,
  });
  const copyMs = cost.durationMs - measured.moveSetupMs - measured.switchMs;
  expect(copyMs / 1_000 / row.seconds).toBeCloseTo(1, 1);
  expect(cost.bytes / (row.memoryMib * 2 ** 20) / row.bytesRatio).toBeCloseTo(1, 1);
});

test("memory dirtied faster than the link never converges, and the downtime says so", () => {
  const cost = moveCost({
    memoryMib: 1024,
    rateMbps: 100,
    load: { diskAllocatedBytes: 0, dirtyMibPerS: 500 },
    maxDowntimeMs: 300,
  });
  expect(cost.downtimeMs).toBeGreaterThan(60_000);
});

test("the disk layer is copied too", () => {
  const move = { memoryMib: 256, rateMbps: defaultSiteRateMbps, maxDowntimeMs: undefined };
  const without = moveCost({ ...move, load: { diskAllocatedBytes: 0 } });
  const withDisk = moveCost({ ...move, load: { diskAllocatedBytes: 50_000_000 } });
  expect(withDisk.bytes - without.bytes).toBe(50_000_000);
  expect(withDisk.durationMs - without.durationMs).toBe(400);
});

test("a downtime limit far above what a move aims at is no reason to stop the guest early", () => {
  const move = { memoryMib: 256, rateMbps: 1_000, load: undefined };
  expect(moveCost({ ...move, maxDowntimeMs: 10_000 })).toEqual(
    moveCost({ ...move, maxDowntimeMs: undefined }),
  );
});
