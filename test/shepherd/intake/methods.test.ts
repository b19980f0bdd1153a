import { inert } from "@drover/shepherd/intake/inert";
import { guestCall, type Method, operatorCall, type Scope } from "@drover/shepherd/intake/methods";
import { isFault } from "@drover/shepherd/model/fault";
import { expect, test } from "@jest/globals";
import { environment, link, machine, networkLink } from "../planner/fleet.ts";

const at = { hostId: "north-1", siteId: "north" };
const speaker = machine("rank-0", at, { spec: { group: "rank", speaker: true } });
const member = machine("rank-1", at, { spec: { group: "rank" } });
const loner = machine("head", at);
const between = link("rank-0", "rank-1", 200);
const withLan = networkLink("rank-0", "lan", 20);
const raised = { ...link("head", "rank-1", 100), effective: { rateMbps: 400 } };
const scope: Scope = {
  environment: environment(),
  machines: [speaker, member, loner],
  links: [between, raised, withLan],
  groups: [],
  newId: () => "new-id",
};

/** A call as one value: the ask, or the fault's code, place and problem. */
function read(method: Method, params: unknown, self = speaker): unknown {
  try {
    const call = guestCall(method, params, self, scope);
    return call.kind === "request" ? call.ask : call.kind;
  } catch (error) {
    if (!isFault(error)) throw error;
    return [error.code, error.details["where"], error.details["problem"]];
  }
}

const plain = { environmentId: "env-ring", machines: [], links: [], reason: "" };

test.each<[string, Method, unknown, unknown]>([
  [
    "sizes for the machine of the channel",
    "resize",
    { cpu_percent: 60, memory_mib: 800, lease_s: 3600, reason: "lanczos phase" },
    {
      ...plain,
      kind: "resize",
      machines: [{ machineId: speaker.id, cpuPercent: 60, memoryMib: 800 }],
      leaseMs: 3_600_000,
      reason: "lanczos phase",
    },
  ],
  [
    "sizes for the group of the speaker",
    "resize",
    { vcpus: 2, group: "rank" },
    {
      ...plain,
      kind: "resize",
      group: "rank",
      machines: [
        { machineId: speaker.id, vcpus: 2 },
        { machineId: member.id, vcpus: 2 },
      ],
    },
  ],
  [
    "the rate of a link",
    "rate",
    { peer: "rank-1", rate_mbps: 500 },
    { ...plain, kind: "rate", links: [{ linkId: between.id, rateMbps: 500 }] },
  ],
  [
    "the rate of a link with a network",
    "rate",
    { network: "lan", rate_mbps: 500 },
    { ...plain, kind: "rate", links: [{ linkId: withLan.id, rateMbps: 500 }] },
  ],
  [
    "a move",
    "move",
    { site: "south" },
    { ...plain, kind: "move", machines: [{ machineId: speaker.id, siteId: "south" }] },
  ],
  [
    "giving everything back",
    "release",
    undefined,
    { ...plain, kind: "release", machines: [{ machineId: speaker.id }] },
  ],
  ["status", "status", {}, "status"],
  [
    "nothing asked",
    "resize",
    { reason: "please" },
    ["request.invalid", "params", "name at least one of vcpus, cpu_percent, memory_mib"],
  ],
  [
    "another machine, which is no parameter at all",
    "resize",
    { cpu_percent: 60, machine: "rank-1" },
    [
      "request.invalid",
      "machine",
      "resize takes no such parameter; it takes vcpus, cpu_percent, memory_mib, group, lease_s, reason",
    ],
  ],
  [
    "another group",
    "resize",
    { cpu_percent: 60, group: "other" },
    ["request.not_yours", "group", "a guest asks for its own group only"],
  ],
  [
    "a number that is text",
    "resize",
    { cpu_percent: "60" },
    ["request.invalid", "cpu_percent", "must be an integer"],
  ],
  ["half a vCPU", "resize", { vcpus: 1.5 }, ["request.invalid", "vcpus", "must be an integer"]],
  [
    "less than nothing",
    "resize",
    { memory_mib: -5 },
    ["request.invalid", "memory_mib", "must be from 1 to 16777216"],
  ],
  [
    "a lease of a year",
    "resize",
    { vcpus: 1, lease_s: 31_536_000 },
    ["request.invalid", "lease_s", "must be from 1 to 2592000"],
  ],
  ["a list", "resize", [60], ["request.invalid", "params", "must be an object of named values"]],
  [
    "a link that is not there",
    "rate",
    { peer: "rank-9", rate_mbps: 5 },
    ["request.invalid", "peer", "there is no link to rank-9"],
  ],
  [
    "a link to itself",
    "rate",
    { peer: "rank-0", rate_mbps: 5 },
    ["request.invalid", "peer", "there is no link to rank-0"],
  ],
])("a guest asks: %s", (_, method, params, expected) => {
  expect(read(method, params)).toEqual(expected);
});

test("only the declared speaker speaks for a group", () => {
  expect(read("resize", { vcpus: 2, group: "rank" }, member)).toEqual([
    "request.not_yours",
    "group",
    "only the group's declared speaker asks for the group",
  ]);
});

test("giving back gives raised links back too", () => {
  expect(read("release", {}, loner)).toMatchObject({
    links: [{ linkId: raised.id, rateMbps: 100 }],
  });
});

test("a move without machine and group is the whole environment, to a host if one is named, in time", () => {
  const asked = operatorCall("move", {}, { host: "south-1", within_s: 90 }, scope);
  const placed = scope.machines.filter(({ effective }) => effective.hostId !== "");
  expect(placed.length).toBeGreaterThan(1);
  expect(asked).toMatchObject({
    ask: {
      kind: "move",
      withinMs: 90_000,
      machines: placed.map(({ id }) => ({ machineId: id, hostId: "south-1" })),
    },
  });
  expect(() => operatorCall("move", {}, {}, scope)).toThrow("site");
});

test("hosts are nothing that guests can name", () => {
  expect(read("move", { host: "south-1" }, loner)).toEqual([
    "request.invalid",
    "host",
    "is not for guests; name a site",
  ]);
});

test("an operator names a machine or a group, not both", () => {
  const about = { machine: "rank-1" };
  expect(operatorCall("resize", about, { vcpus: 2 }, scope)).toMatchObject({
    ask: { machines: [{ machineId: member.id, vcpus: 2 }] },
  });
  expect(() => operatorCall("resize", {}, { vcpus: 2 }, scope)).toThrow("either a machine or");
  expect(() =>
    operatorCall("resize", { machine: "x", group: "rank" }, { vcpus: 2 }, scope),
  ).toThrow("either a machine or");
  expect(() => operatorCall("resize", { machine: "rank-9" }, { vcpus: 2 }, scope)).toThrow(
    "ring has no machine rank-9",
  );
});

test.each([
  ["\u001b[31mred\u001b[0m", "\ufffd[31mred\ufffd[0m"],
  ["a\r\nb\tc", "a\ufffd\ufffdb\ufffdc"],
  ["abc\u202etxt.exe", "abc\ufffdtxt.exe"],
  ["line\u2028break", "line\ufffdbreak"],
  ["lone \ud83d surrogate", "lone \ufffd surrogate"],
  ["x".repeat(300), "x".repeat(200)],
  [`${"x".repeat(199)}😀`, "x".repeat(199)],
  ["größer 😀", "größer 😀"],
])("inert text: %j", (text, expected) => {
  expect(inert(text)).toBe(expected);
});
