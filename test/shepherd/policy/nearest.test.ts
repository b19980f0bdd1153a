import type { Sizing } from "@drover/shepherd/model/objects";
import type { Preview } from "@drover/shepherd/policy/gate";
import { nearestAllowed, type Sizes } from "@drover/shepherd/policy/nearest";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const from: Sizing = { vcpus: 1, cpuPercent: 20, memoryMib: 256 };
/** A policy that is monotone: each size has its bound, and both together have one. */
function within(bounds: { readonly cpu: number; readonly memory: number; readonly sum: number }) {
  return ({ cpuPercent = from.cpuPercent, memoryMib = from.memoryMib }: Sizes) =>
    cpuPercent <= bounds.cpu && memoryMib <= bounds.memory && cpuPercent + memoryMib <= bounds.sum;
}
async function search(to: Sizes, allows: (sizes: Sizes) => boolean, hints: Sizes = {}) {
  const asked: Sizes[] = [];
  const found = await nearestAllowed({
    from,
    to,
    hints,
    ask: async (sizes) => {
      asked.push(sizes);
      return { decision: { effect: allows(sizes) ? "allow" : "deny" } } as Preview;
    },
  });
  return { ...found, asked };
}

test("one value ends exactly at its bound", async () => {
  const { sizes } = await search(
    { cpuPercent: 6400 },
    within({ cpu: 61, memory: 9_999, sum: 99_999 }),
  );
  expect(sizes).toEqual({ cpuPercent: 61 });
});

test("a value that a rule proposes is tried first, and raised if more would pass", async () => {
  const rule = within({ cpu: 100, memory: 9_999, sum: 99_999 });
  const { sizes, asked } = await search({ cpuPercent: 6400 }, rule, { cpuPercent: 60 });
  expect(asked[0]).toEqual({ cpuPercent: 60 });
  expect(sizes).toEqual({ cpuPercent: 100 });
});

test("nothing between is nothing", async () => {
  const { sizes } = await search({ cpuPercent: 6400, memoryMib: 512 }, () => false);
  expect(sizes).toBeUndefined();
});

test("what is found was tried and allowed, lies between, and no single value could be more", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 21, max: 400 }),
      fc.integer({ min: 257, max: 4_096 }),
      fc.record({
        cpu: fc.integer({ min: 20, max: 400 }),
        memory: fc.integer({ min: 256, max: 4_096 }),
        sum: fc.integer({ min: 276, max: 4_496 }),
      }),
      async (cpuPercent, memoryMib, bounds) => {
        const allows = within(bounds);
        const { sizes, asked, tried } = await search({ cpuPercent, memoryMib }, allows);
        expect(tried).toBeLessThanOrEqual(60);
        if (sizes === undefined) {
          expect(allows({ cpuPercent: from.cpuPercent + 1 })).toBe(false);
          expect(allows({ memoryMib: from.memoryMib + 1 })).toBe(false);
          return;
        }
        const found = { cpuPercent: from.cpuPercent, memoryMib: from.memoryMib, ...sizes };
        expect(allows(sizes)).toBe(true);
        expect(asked).toContainEqual(sizes);
        expect(found.cpuPercent).toBeLessThanOrEqual(cpuPercent);
        expect(found.memoryMib).toBeLessThanOrEqual(memoryMib);
        for (const more of [
          { ...found, cpuPercent: found.cpuPercent + 1 },
          { ...found, memoryMib: found.memoryMib + 1 },
        ]) {
          const isAsked = more.cpuPercent <= cpuPercent && more.memoryMib <= memoryMib;
          expect(isAsked && allows(more)).toBe(false);
        }
      },
    ),
    { numRuns: 200 },
  );
});
