import type { GroupSpec, MachineRecord, Topology } from "@drover/shepherd/model/objects";
import { changeGroup, memberIndex, topologyPairs } from "@drover/shepherd/planner/groups";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { environment, link, machine } from "./fleet.ts";

test.each<[Topology, number, readonly string[]]>([
  ["none", 4, []],
  ["ring", 1, []],
  ["ring", 2, ["0-1"]],
  ["ring", 4, ["0-1", "1-2", "2-3", "0-3"]],
  ["star", 4, ["0-1", "0-2", "0-3"]],
  ["mesh", 4, ["0-1", "0-2", "0-3", "1-2", "1-3", "2-3"]],
])("a %s of %i machines has these links, each once and sorted", (topology, count, expected) => {
  const names = Array.from({ length: count }, (_, index) => String(index));
  expect(topologyPairs(topology, names).map((pair) => pair.join("-"))).toEqual(expected);
});

test.each([
  ["rank-0", 0],
  ["rank-17", 17],
  ["rank-01", undefined],
  ["rank-", undefined],
  ["rank-a", undefined],
  ["ranks-1", undefined],
])("%s is member %s of group rank", (name, index) => {
  expect(memberIndex("rank", name)).toBe(index);
});

describe("a change of number", () => {
  const spec: GroupSpec = {
    environmentId: "env-ring",
    name: "rank",
    template: {
      imageId: "image",
      baseline: { vcpus: 1, cpuPercent: 20, memoryMib: 64, siteId: "north" },
      networks: [],
    },
    machineCount: 2,
    mode: "auto",
    topology: "ring",
    topologyRateMbps: 10,
    coupling: "independent",
    speaker: 0,
  };
  const member = (index: number): MachineRecord =>
    machine(`rank-${index}`, { hostId: "north-1", siteId: "north" }, { spec: { group: "rank" } });
  const scopeOf = (indices: readonly number[]) => {
    let ids = 0;
    return {
      environment: environment(),
      machines: indices.map(member),
      links: [],
      newId: () => `new-${(ids += 1)}`,
    };
  };
  const told = (change: ReturnType<typeof changeGroup>) => ({
    added: change.declares.machines?.map(({ spec: one }) => [one.name, one.origin, one.speaker]),
    gone: change.machines.filter(({ remove }) => remove).map(({ machineId }) => machineId),
  });

  test("fills the lowest free indices; beyond the stack's number they are adaptation's", () => {
    expect(told(changeGroup(spec, 4, scopeOf([0, 2])))).toEqual({
      added: [
        ["rank-1", "stack", false],
        ["rank-3", "adaptation", false],
      ],
      gone: [],
    });
  });

  test("takes the highest first", () => {
    expect(told(changeGroup(spec, 2, scopeOf([0, 1, 2, 5])))).toEqual({
      added: [],
      gone: [member(2).id, member(5).id],
    });
  });

  test("a link that a guest had added to a machine that leaves goes with it", () => {
    const added = { ...link("rank-0", "rank-2", 0), effective: { rateMbps: 30 } };
    const loose = { ...added, spec: { ...added.spec, origin: "adaptation" as const } };
    const scope = { ...scopeOf([0, 1, 2]), links: [loose] };
    const change = changeGroup({ ...spec, topology: "none" }, 2, scope);
    expect(change.links).toEqual([{ linkId: loose.id, rateMbps: 0 }]);
  });

  test("what it asks for is exactly the number, from any state, and asking again changes nothing", () => {
    const indices = fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 8 });
    fc.assert(
      fc.property(indices, fc.integer({ min: 0, max: 10 }), (there, wanted) => {
        const scope = scopeOf(there);
        const change = changeGroup(spec, wanted, scope);
        const gone = new Set(told(change).gone);
        const after = [
          ...scope.machines.filter(({ id }) => !gone.has(id)),
          ...(change.declares.machines ?? []).map(({ id, spec: one }) => ({
            ...member(memberIndex("rank", one.name) ?? 0),
            id,
          })),
        ];
        expect(after).toHaveLength(wanted);
        expect(new Set(after.map(({ spec: one }) => one.name)).size).toBe(wanted);
        const again = changeGroup(spec, wanted, { ...scope, machines: after });
        expect(told(again)).toEqual({ added: [], gone: [] });
      }),
    );
  });
});
