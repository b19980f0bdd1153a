/** Ids of the real world sort as they were given, whatever the clock does; its timers can be taken back. */
import { createIds, systemClock } from "@drover/shepherd/system";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

test("ids are UUIDv7, unique and rising, also when the clock stands still or goes back", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 300 }), (times) => {
      const ahead = [...times];
      const ids = createIds({ nowMs: () => 1_700_000_000_000 + (ahead.shift() ?? 0) });
      const given = times.map(() => ids.next());
      for (const id of given) {
        expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      }
      expect(given).toEqual([...new Set(given)].toSorted());
    }),
  );
});

test("more ids in a millisecond than its counter holds still rise", () => {
  const ids = createIds({ nowMs: () => 1_700_000_000_000 });
  const given = Array.from({ length: 10_000 }, () => ids.next());
  expect(given).toEqual([...new Set(given)].toSorted());
});

test("a timer calls once, soon after its time; a cancelled one never", async () => {
  const called: string[] = [];
  const nowMs = systemClock.nowMs();
  systemClock.at(nowMs - 1000, () => called.push("late"));
  const cancel = systemClock.at(nowMs + 5, () => called.push("cancelled"));
  cancel();
  await systemClock.sleep(40);
  expect(called).toEqual(["late"]);
});

test("an aborted sleep tells why", async () => {
  const stop = new AbortController();
  const sleeping = systemClock.sleep(60_000, stop.signal);
  stop.abort(new Error("enough"));
  await expect(sleeping).rejects.toThrow("enough");
});
