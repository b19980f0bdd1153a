import {
  defaultBudgets,
  type Priority,
  priorities,
  schedule,
  type Work,
} from "@drover/shepherd/operations/schedule";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

const work = (id: string, of: Partial<Work> & { machines?: string[]; environment?: string } = {}) =>
  ({
    operation: {
      id,
      environmentId: of.environment ?? "ring",
      machineIds: of.machines ?? [id],
    },
    priority: of.priority ?? "user",
    hostIds: of.hostIds ?? [],
    siteIds: of.siteIds ?? [],
    lines: of.lines ?? [],
  }) satisfies Work;
const siteOf = (host: string) => host.slice(0, 1);
const move = (id: string, from: string, to: string, of: Parameters<typeof work>[1] = {}) =>
  work(id, {
    ...of,
    hostIds: [from, to],
    siteIds: [...new Set([siteOf(from), siteOf(to)])],
    lines: [`${siteOf(from)}>${siteOf(to)}`],
  });

describe("who goes first", () => {
  const one = { ...defaultBudgets, operations: 1 };
  test.each(
    priorities.slice(1).map((later, index) => ({ earlier: priorities[index] as Priority, later })),
  )("$earlier before $later, whoever came first", ({ earlier, later }) => {
    const open = [work("b", { priority: later }), work("a", { priority: earlier })];
    expect(schedule(open, new Set(), { budgets: one }).start).toEqual(["a"]);
  });

  test("among equals the environment that has least under way, then the order of admission", () => {
    const open = [
      work("1", { environment: "busy" }),
      work("2", { environment: "busy" }),
      work("3", { environment: "idle" }),
      work("4", { environment: "idle" }),
    ];
    const two = { ...defaultBudgets, operations: 3 };
    expect(schedule(open, new Set(["1"]), { budgets: two }).start).toEqual(["3", "2"]);
  });

  test("never a later one of the same machine, however urgent, and it says what it waits for", () => {
    const open = [
      work("slow", { machines: ["m"], priority: "automation" }),
      work("fast", { machines: ["m"], priority: "release" }),
    ];
    const { start, waiting } = schedule(open, new Set());
    expect(start).toEqual(["slow"]);
    expect(waiting.get("fast")).toBe("waiting for operation slow on the same machine");
  });
});

describe("what waits for a silent host", () => {
  const silent = new Map([["less", "s1"]]);

  test("takes no place of others, keeps its order on its machine, and says what it waits for", () => {
    const open = [
      work("less", { machines: ["m"], priority: "release" }),
      work("destroy", { machines: ["m"] }),
      work("other"),
    ];
    const budgets = { ...defaultBudgets, operations: 1 };
    const { start, waiting } = schedule(open, new Set(), { budgets, silent });
    expect(start).toEqual(["other"]);
    expect(Object.fromEntries(waiting)).toEqual({
      less: "waiting for host s1 to answer",
      destroy: "waiting for operation less on the same machine",
    });
  });

  test("and is what it was when the host answers", () => {
    expect(schedule([work("less")], new Set()).start).toEqual(["less"]);
  });
});

describe("budgets", () => {
  test("a third move of a host waits, a resize there does not", () => {
    const open = [
      move("1", "n1", "s1"),
      move("2", "n1", "n2"),
      move("3", "n1", "n3"),
      work("resize", { hostIds: ["n1"] }),
    ];
    const { start, waiting } = schedule(open, new Set());
    expect(start).toEqual(["1", "2", "resize"]);
    expect(waiting.get("3")).toBe("waiting: moves of n1 has 2 under way, the most it may");
  });

  test("a third move over the same line between two sites waits", () => {
    const open = [move("1", "n1", "s1"), move("2", "n2", "s2"), move("3", "n3", "s3")];
    const { start, waiting } = schedule(open, new Set());
    expect(start).toEqual(["1", "2"]);
    expect(waiting.get("3")).toContain("line n>s");
  });

  test("one more at a site than it may have waits, whatever its host; another site's starts", () => {
    const at = (id: string, site: string, host: string) =>
      work(id, { siteIds: [site], hostIds: [host] });
    const open = [at("1", "n", "n1"), at("2", "n", "n2"), at("3", "n", "n3"), at("4", "s", "s1")];
    const { start, waiting } = schedule(open, new Set(["1"]), {
      budgets: { ...defaultBudgets, perSite: 2 },
    });
    expect(start).toEqual(["2", "4"]);
    expect(waiting.get("3")).toBe("waiting: site n has 2 under way, the most it may");
  });
});

test("property: no budget is ever exceeded, nothing is started twice, and what may run does", () => {
  const hosts = ["n1", "n2", "s1", "s2"];
  const budgets = { operations: 7, perHost: 4, movesPerHost: 2, movesPerLine: 2, perSite: 5 };
  const anyWork = fc.record({
    machine: fc.integer({ min: 0, max: 6 }),
    from: fc.constantFrom(...hosts),
    to: fc.constantFrom(...hosts),
    moves: fc.boolean(),
    environment: fc.constantFrom("a", "b"),
    priority: fc.constantFrom(...priorities),
  });
  fc.assert(
    fc.property(fc.array(anyWork, { maxLength: 24 }), (all) => {
      const open = all.map((one, index) => {
        const of = {
          machines: [`m${one.machine}`],
          environment: one.environment,
          priority: one.priority,
        };
        return one.moves
          ? move(`op${index}`, one.from, one.to, of)
          : work(`op${index}`, { ...of, hostIds: [one.from], siteIds: [siteOf(one.from)] });
      });
      const { start, waiting } = schedule(open, new Set(), { budgets });
      expect(new Set(start).size).toBe(start.length);
      expect(start.length + waiting.size).toBe(open.length);
      expect(start.length).toBeLessThanOrEqual(budgets.operations);
      const started = open.filter(({ operation }) => start.includes(operation.id));
      const machines = started.flatMap(({ operation }) => operation.machineIds);
      expect(new Set(machines).size).toBe(machines.length);
      for (const host of hosts) {
        const here = started.filter(({ hostIds }) => hostIds.includes(host));
        expect(here.length).toBeLessThanOrEqual(budgets.perHost);
        const moves = here.filter(({ lines }) => lines.length > 0);
        expect(moves.length).toBeLessThanOrEqual(budgets.movesPerHost);
      }
      for (const site of ["n", "s"]) {
        const there = started.filter(({ siteIds }) => siteIds.includes(site));
        expect(there.length).toBeLessThanOrEqual(budgets.perSite);
        const lines = [`${site}>n`, `${site}>s`];
        for (const line of lines) {
          const over = started.filter((one) => one.lines.includes(line));
          expect(over.length).toBeLessThanOrEqual(budgets.movesPerLine);
        }
      }
      // Work-conserving: something runs whenever something is open.
      expect(start.length > 0).toBe(open.length > 0);
    }),
  );
});
