/** Hosts refuse a shepherd that is not, or no longer, theirs. */
import { refusalOf } from "@drover/shepherd/ports/claim";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { createWorld } from "@drover/shepherd/simulated/world";
import { expect, test } from "@jest/globals";

const mine = { lineage: "a", epoch: 7, holder: "one" };

test.each([
  ["nobody has it", undefined, undefined],
  ["I have it", mine, undefined],
  ["my predecessor has it", { ...mine, epoch: 6, holder: "zero" }, undefined],
  ["my successor has it", { ...mine, epoch: 8, holder: "two" }, "newer_shepherd"],
  ["a copy of my journal has it", { ...mine, holder: "copy" }, "newer_shepherd"],
  ["another installation has it", { ...mine, lineage: "b", epoch: 1 }, "other_installation"],
])("%s", (_, held, refusal) => {
  expect(refusalOf(held, mine)).toBe(refusal);
});

test("an old shepherd that wakes up after its successor is refused everything", async () => {
  const clock = createVirtualClock();
  const world = createWorld({
    clock,
    hosts: [{ id: "north-1", cores: 4, memoryMib: 1024, poolBytes: 2 ** 30 }],
  });
  const old = world.connect({ ...mine, epoch: 7 }).hosts.get("north-1");
  await clock.until(old.listDomains());
  const young = world.connect({ ...mine, epoch: 8, holder: "two" }).hosts.get("north-1");
  await clock.until(young.listDomains());
  await expect(clock.until(old.stopDomain("any", { graceMs: 0 }))).rejects.toMatchObject({
    code: "host.claimed",
  });
  await expect(clock.until(old.volumes.remove("any"))).rejects.toMatchObject({
    code: "host.claimed",
  });
  await clock.until(young.listDomains());
});
