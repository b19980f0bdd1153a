/** What the balloon's statistics say, by libvirt's tags. */
import { readMemoryStats } from "@drover/shepherd/libvirt/guest-memory";
import { expect, test } from "@jest/globals";

const actual = { tag: 6, value: 320n * 1024n };
const usable = { tag: 8, value: 100_000 };
const said = { tag: 9, value: 1_700_000_000n };

test("a guest that speaks: what it has, what it could give up, and when it said so", () => {
  expect(readMemoryStats([actual, { tag: 4, value: 1 }, usable, said])).toEqual({
    memoryMib: 320,
    usableMib: 97,
    saidAtMs: 1_700_000_000_000,
  });
});

test.each([
  ["never spoke", [actual, usable, { tag: 9, value: 0 }]],
  ["has no balloon", []],
  ["boots, and has said nothing of what it could give", [actual, said]],
])("one that %s says nothing", (_, stats) => {
  expect(readMemoryStats(stats)).toBeUndefined();
});
