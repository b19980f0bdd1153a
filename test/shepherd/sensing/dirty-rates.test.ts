import type { ObservedMachine } from "@drover/shepherd/model/facts";
import { Fault } from "@drover/shepherd/model/fault";
import type { Host, Hosts } from "@drover/shepherd/ports/host";
import { createDirtyRates } from "@drover/shepherd/sensing/dirty-rates";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { expect, test } from "@jest/globals";

function seen(hostId: string, running = true): ObservedMachine {
  return {
    hostId,
    running,
    vcpus: 1,
    cpuPercent: 20,
    memoryMib: 256,
    memoryTargetMib: 256,
    observedAtMs: 0,
  };
}

function scene(answers: Record<string, () => number | undefined>) {
  const clock = createVirtualClock();
  const machines: Record<string, ObservedMachine> = {};
  const asked: string[] = [];
  const hosts = {
    get: () =>
      ({
        dirtyMibPerS: async (id: string) => {
          asked.push(id);
          return answers[id]?.();
        },
      }) as unknown as Host, // of a host only what is asked for here
  } as unknown as Hosts;
  const rates = createDirtyRates({
    hosts,
    hostIds: () => ["north-1", "south-1"],
    observed: () => machines,
    clock,
  });
  return { clock, machines, asked, rates };
}

test("each host is asked about one machine at a time, and each machine comes round", async () => {
  const { clock, machines, asked, rates } = scene({ a: () => 4, b: () => 20, c: () => 0 });
  Object.assign(machines, { a: seen("north-1"), b: seen("north-1"), c: seen("south-1") });
  rates.start();
  await clock.advance(10);
  expect(asked).toEqual(["a", "c"]);
  await clock.advance(5_000);
  expect(asked).toEqual(["a", "c", "b"]);
  expect([rates.of("a"), rates.of("b"), rates.of("c")]).toEqual([4, 20, 0]);
  await clock.advance(60_000);
  expect(asked.filter((id) => id === "a").length).toBeGreaterThanOrEqual(2);
  rates.stop();
});

test("one odd second does not rule, and a figure of long ago is none", async () => {
  let rate = 10;
  const { clock, machines, rates } = scene({ a: () => rate });
  machines["a"] = seen("north-1");
  rates.start();
  await clock.advance(10);
  rate = 30;
  await clock.advance(33_000);
  expect(rates.of("a")).toBe(20);
  machines["a"] = seen("north-1", false);
  await clock.advance(16 * 60_000);
  expect(rates.of("a")).toBeUndefined();
  rates.stop();
});

test("what cannot be asked is unknown, and the next one is asked all the same", async () => {
  const { clock, machines, rates } = scene({
    a: () => {
      throw new Fault("host.unreachable", { host: "north-1", problem: "silent" });
    },
    b: () => 7,
  });
  Object.assign(machines, { a: seen("north-1"), b: seen("north-1") });
  rates.start();
  await clock.advance(9_000);
  expect([rates.of("a"), rates.of("b")]).toEqual([undefined, 7]);
  rates.stop();
});
