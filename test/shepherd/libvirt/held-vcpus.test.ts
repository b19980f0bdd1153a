import { countedVcpus, heldCap, shownPercent } from "@drover/shepherd/libvirt/held-vcpus";
import type { Mark } from "@drover/shepherd/libvirt/xml/metadata";
import { expect, test } from "@jest/globals";

const mark = (idleVcpus: number, askedCpuPercent?: number): Mark => ({
  ...(idleVcpus === 0 || askedCpuPercent === undefined ? {} : { countedVcpus: 1 }),
  environmentId: "e",
  owner: "alice",
  epoch: 1,
  idleVcpus,
  askedCpuPercent,
});

test.each<[string, Parameters<typeof countedVcpus>[0], number, number | undefined]>([
  ["nothing given back", { mark: mark(0), vcpus: 2, cpuPercent: 150 }, 2, 150],
  [
    "a foreign machine, uncapped",
    { mark: undefined, vcpus: 4, cpuPercent: undefined },
    4,
    undefined,
  ],
  ["one of two held, under a lower cap", { mark: mark(1, 150), vcpus: 2, cpuPercent: 100 }, 1, 150],
  ["one held, the cap being low anyway", { mark: mark(1, 60), vcpus: 2, cpuPercent: 60 }, 1, 60],
  [
    "somebody lifted the cap: they count again",
    { mark: mark(1, 150), vcpus: 2, cpuPercent: 150 },
    2,
    150,
  ],
  [
    "the shepherd died between mark and cap",
    { mark: mark(1, 150), vcpus: 2, cpuPercent: 150 },
    2,
    150,
  ],
  [
    "somebody took the cap away",
    { mark: mark(1, 150), vcpus: 2, cpuPercent: undefined },
    2,
    undefined,
  ],
  ["a mark of an older shepherd", { mark: mark(1), vcpus: 2, cpuPercent: 150 }, 1, 150],
  ["its guest let go after all", { mark: mark(1, 150), vcpus: 1, cpuPercent: 100 }, 1, 150],
  ["its guest let go of one of two", { mark: mark(2, 150), vcpus: 2, cpuPercent: 100 }, 1, 150],
])("%s", (_, seen, vcpus, percent) => {
  expect([countedVcpus(seen), shownPercent(seen)]).toEqual([vcpus, percent]);
});

test("the cap of held ones is what the others could use, and never above what was asked for", () => {
  expect([heldCap(1, 150), heldCap(2, 150), heldCap(3, undefined)]).toEqual([100, 150, 300]);
});
