import { costOfWaves, inWaves, partedTalk, talkBetween } from "@drover/shepherd/planner/move-order";
import { plan } from "@drover/shepherd/planner/plan";
import { expect, test } from "@jest/globals";
import { facts, host, link, machine, nowMs, request } from "./fleet.ts";

const hosts = [
  host("north-1", "north", { memoryMib: 4096, cpuPercent: 800 }),
  host("south-1", "south", { memoryMib: 4096, cpuPercent: 800 }),
];
const names = ["a", "b", "c", "d"];
const machines = names.map((name) => machine(name, { hostId: "north-1", siteId: "north" }));
const all = machines.map(({ id }) => ({ machineId: id, siteId: "south" }));

function movesOf(links: Parameters<typeof facts>[2]) {
  const answer = plan(request("move", all), facts(hosts, machines, links));
  if (answer.kind === "refused") throw new Error(answer.message);
  return answer.actions.filter((action) => action.kind === "move_machine");
}
const nameOf = (id: string) => machines.find((one) => one.id === id)?.spec.name ?? id;

test("a whole environment is one plan: those that talk most switch together", () => {
  const moves = movesOf({
    links: [link("a", "c", 400), link("b", "d", 300), link("a", "b", 1), link("c", "d", 1)],
  });
  const waves = moves.map(({ machineId, wave }) => `${wave}:${nameOf(machineId)}`);
  expect(waves.toSorted()).toEqual(["0:a", "0:c", "1:b", "1:d"]);
});

test("one machine alone has no wave", () => {
  const [first] = all;
  const answer = plan(request("move", first ? [first] : []), facts(hosts, machines));
  expect(answer.kind === "planned" && answer.actions[0]).not.toHaveProperty("wave");
});

test("guests that write faster than half of the line switch one by one", () => {
  const moves = movesOf({ siteRates: { "north>south": 80 } });
  expect(moves.map(({ wave }) => wave)).toEqual([0, 1, 2, 3]);
});

test("the order found parts no more talk than any other order of the same waves", () => {
  const links = [link("a", "b", 10), link("b", "c", 200), link("c", "d", 50), link("a", "d", 120)];
  const moves = movesOf({ links });
  const talk = talkBetween(moves, facts(hosts, machines, { links }));
  const found = partedTalk(moves, talk, 2);
  for (const one of moves) {
    for (const other of moves) {
      const swapped = moves.map((move) => (move === one ? other : move === other ? one : move));
      expect(partedTalk(swapped, talk, 2)).toBeGreaterThanOrEqual(found - 1e-6);
    }
  }
});

test("many machines are ordered too, each beside the one it talks to", () => {
  const many = Array.from({ length: 12 }, (_, index) =>
    machine(`n-${String(index).padStart(2, "0")}`, { hostId: "north-1", siteId: "north" }),
  );
  const links = Array.from({ length: 6 }, (_, index) =>
    link(`n-${String(index).padStart(2, "0")}`, `n-${String(11 - index).padStart(2, "0")}`, 100),
  );
  const big = [
    host("north-1", "north", { memoryMib: 9000, cpuPercent: 9000, diskGib: 500 }),
    host("south-1", "south", { memoryMib: 9000, cpuPercent: 9000, diskGib: 500 }),
  ];
  const answer = plan(
    request(
      "move",
      many.map(({ id }) => ({ machineId: id, siteId: "south" })),
    ),
    facts(big, many, { links }),
  );
  if (answer.kind === "refused") throw new Error(answer.message);
  const waveOf = new Map(
    answer.actions.flatMap((action) =>
      action.kind === "move_machine" ? [[action.machineId, action.wave] as const] : [],
    ),
  );
  for (const { spec } of links) {
    const [left, right] = spec.machines.map((name) => many.find((one) => one.spec.name === name));
    expect(waveOf.get(left?.id ?? "")).toBe(waveOf.get(right?.id ?? ""));
  }
});

test("an environment is predicted to take less than its machines one after the other, and no fewer bytes", () => {
  const moves = movesOf({});
  const total = costOfWaves(moves);
  const alone = moves.reduce((sum, { cost }) => sum + cost.durationMs, 0);
  expect(total.durationMs).toBeLessThan(alone);
  expect(total.bytes).toBe(moves.reduce((sum, { cost }) => sum + cost.bytes, 0));
  expect(inWaves(moves, facts(hosts, machines)).length).toBe(4);
});

test.each([
  { within: 1_000, code: "placement.deadline" },
  { within: 3_600_000, code: undefined },
])("to have ended within $within ms: $code", ({ within, code }) => {
  const asked = { ...request("move", all), withinMs: within, receivedAtMs: nowMs };
  const answer = plan(asked, facts(hosts, machines));
  if (code === undefined) {
    expect(answer.kind).toBe("planned");
    return;
  }
  if (answer.kind !== "refused") throw new Error("it was planned");
  expect(answer.code).toBe(code);
  const again = { ...asked, withinMs: (answer.nearest?.["within_s"] ?? 0) * 1_000 };
  expect(plan(again, facts(hosts, machines)).kind).toBe("planned");
});

test("a move to a host goes there and nowhere else, also within its site", () => {
  const two = [...hosts, host("south-2", "south", { memoryMib: 8192, cpuPercent: 1600 })];
  const [one] = machines;
  const ask = { machineId: one?.id ?? "", siteId: "south", hostId: "south-1" };
  const there = plan(request("move", [ask]), facts(two, machines));
  expect(there.kind === "planned" && there.actions).toMatchObject([{ toHostId: "south-1" }]);
  const moved = machine("a", { hostId: "south-2", siteId: "south" });
  const beside = plan(request("move", [{ ...ask, machineId: moved.id }]), facts(two, [moved]));
  expect(beside.kind === "planned" && beside.actions).toMatchObject([
    { fromHostId: "south-2", toHostId: "south-1" },
  ]);
});
