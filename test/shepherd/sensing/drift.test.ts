import { driftOf, isSettling, shownSizing } from "@drover/shepherd/sensing/drift";
import { expect, test } from "@jest/globals";
import { machine, seen } from "../planner/fleet.ts";

const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
const siteOf = (hostId: string) => hostId.split("-")[0];
const looked = (more: Parameters<typeof seen>[1]) => seen(rank, more)[rank.id];

test.each([
  ["as granted", {}, []],
  ["a balloon within a MiB of its target", { memoryTargetMib: 257, memoryMib: 257 }, []],
  [
    "a guest that has something else, and nothing was asked of it",
    { memoryTargetMib: 256, memoryMib: 300 },
    [{ attribute: "memoryMib", expected: 256, actual: 300 }],
  ],
  [
    "no cap any more",
    { cpuPercent: undefined },
    [{ attribute: "cpuPercent", expected: 20, actual: 100 }],
  ],
  [
    "memory set by somebody else",
    { memoryTargetMib: 300, memoryMib: 300 },
    [{ attribute: "memoryMib", expected: 256, actual: 300 }],
  ],
  [
    "vCPUs and cap set by somebody else",
    { vcpus: 2, cpuPercent: 90 },
    [
      { attribute: "vcpus", expected: 1, actual: 2 },
      { attribute: "cpuPercent", expected: 20, actual: 90 },
    ],
  ],
  [
    "a weight that somebody else gave it",
    { cpuWeight: 333 },
    [{ attribute: "cpuWeight", expected: 100, actual: 333 }],
  ],
  [
    "moved by somebody else",
    { hostId: "south-1" },
    [{ attribute: "siteId", expected: "north", actual: "south" }],
  ],
  ["moved within its site", { hostId: "north-2" }, []],
  ["not running: nothing is concluded", { running: false, memoryTargetMib: 0 }, []],
])("%s", (_, more, expected) => {
  expect(driftOf(rank, looked(more), siteOf)).toEqual(expected);
});

test("nothing is known of a machine that was not observed, or is being changed", () => {
  expect(driftOf(rank, undefined, siteOf)).toEqual([]);
  const moving = machine(
    "rank-0",
    { hostId: "north-1", siteId: "north" },
    {
      effective: { state: "moving" },
    },
  );
  expect(driftOf(moving, looked({ memoryTargetMib: 900 }), siteOf)).toEqual([]);
});

test.each([
  ["both are in", ["52:54:00:00:00:01", "52:54:00:00:00:02"], []],
  ["its host did not say", undefined, []],
  [
    "one is out",
    ["52:54:00:00:00:02", "52:54:00:00:00:ff"],
    [{ attribute: "networks", expected: "10.42.0.10, 10.43.0.10", actual: "10.43.0.10" }],
  ],
  [
    "all are out",
    [],
    [{ attribute: "networks", expected: "10.42.0.10, 10.43.0.10", actual: "none" }],
  ],
])("cards that somebody unplugged: %s", (_, macs, expected) => {
  const nic = (network: string, mac: string) => ({
    networkId: network,
    address: `10.${network}.0.10`,
    prefixLength: 24,
    mac,
    tap: `dvt${network}`,
  });
  const nics = [nic("42", "52:54:00:00:00:01"), nic("43", "52:54:00:00:00:02")];
  const carded = machine("rank-0", { hostId: "north-1", siteId: "north" }, { effective: { nics } });
  expect(driftOf(carded, looked({ macs }), siteOf)).toEqual(expected);
});

const settling = machine(
  "rank-0",
  { hostId: "north-1", siteId: "north" },
  { effective: { settlingFromMib: 800 } },
);
test.each([
  ["on its way", 700, 256, true],
  ["there", 257, 256, false],
  ["beyond where it came from", 900, 900, false],
])("a balloon that is settling from 800 to 256 MiB: %s", (_, memoryMib, shown, isOnItsWay) => {
  const now = looked({ memoryMib });
  expect(shownSizing(settling, now).memoryMib).toBe(shown);
  expect(isSettling(settling, now)).toBe(isOnItsWay);
});
