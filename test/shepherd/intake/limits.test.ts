import { RefusalCounter, TokenBucket } from "@drover/shepherd/intake/limits";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import pino from "pino";

test("whatever an asker does, in time T it gets at most burst + rate x T", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }),
      (perSecond, burst, pauses) => {
        let nowMs = 1_000;
        const bucket = new TokenBucket({ nowMs: () => nowMs }, { perSecond, burst });
        let got = 0;
        for (const pauseMs of pauses) {
          nowMs += pauseMs;
          while (bucket.take()) got += 1;
        }
        expect(got).toBeLessThanOrEqual(burst + (perSecond * (nowMs - 1_000)) / 1_000 + 1e-6);
      },
    ),
  );
});

test("the wait it is told is when the next one is there, and not much longer", () => {
  let nowMs = 0;
  const bucket = new TokenBucket({ nowMs: () => nowMs }, { perSecond: 4, burst: 2 });
  while (bucket.take());
  nowMs += bucket.waitMs() - 1;
  expect(bucket.take()).toBe(false);
  nowMs += 1;
  expect(bucket.take()).toBe(true);
});

test("debt is paid by waiting", () => {
  let nowMs = 0;
  const bucket = new TokenBucket({ nowMs: () => nowMs }, { perSecond: 1_000, burst: 100 });
  expect(bucket.spend(100)).toBe(0);
  expect(bucket.spend(500)).toBe(500);
  nowMs += 500;
  expect(bucket.spend(0)).toBe(0);
});

test("refusals become one row per machine, reason and second", async () => {
  const clock = createVirtualClock(1_700_000_000_500);
  const store = openSqliteStore(":memory:");
  const counter = new RefusalCounter({ store, clock, log: pino({ level: "silent" }) });
  const [one, two] = ["one", "two"].map((id) => ({ id, environmentId: "ring" }));
  if (one === undefined || two === undefined) throw new Error("two machines");
  for (let n = 0; n < 990; n++) counter.add(one, "rate");
  for (let n = 0; n < 10; n++) counter.add(one, "not_json");
  counter.add(two, "rate");
  await clock.advance(700);
  counter.add(one, "rate");
  await clock.advance(2_000);
  const rows = await store.read((journal) => journal.events.since(0, 100));
  expect(
    rows.map(({ kind, machineId, atMs, data }) => [
      kind,
      machineId,
      atMs % 100_000,
      data["reason"],
      data["count"],
    ]),
  ).toEqual([
    ["request.refused", "one", 0, "rate", 990],
    ["request.refused", "one", 0, "not_json", 10],
    ["request.refused", "two", 0, "rate", 1],
    ["request.refused", "one", 1_000, "rate", 1],
  ]);
  await store.close();
});
