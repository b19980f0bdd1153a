import type { Facts, RecentMove } from "@drover/shepherd/model/facts";
import type { Reservation } from "@drover/shepherd/model/plan";
import { roomOf } from "@drover/shepherd/planner/room";
import { heldBy, movesOf, movingOf, ownerOf, sharesOf } from "@drover/shepherd/policy/holdings";
import { auditInput, policyInput } from "@drover/shepherd/policy/policy-input";
import { expect, test } from "@jest/globals";
import { environment, facts, host, machine, nowMs, request } from "../planner/fleet.ts";

const ring = environment();
const lab = {
  ...environment(),
  id: "env-lab",
  key: "lab",
  spec: { ...ring.spec, name: "lab" },
};
const foreign = {
  ...environment(),
  id: "env-foreign",
  key: "foreign",
  spec: { ...ring.spec, name: "foreign", owner: "bob" },
};
const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
const test1 = machine(
  "test-1",
  { hostId: "south-1", siteId: "south" },
  { environmentName: "lab", baseline: { cpuPercent: 50, memoryMib: 512 } },
);
const bobs = machine("b", { hostId: "south-1", siteId: "south" }, { environmentName: "foreign" });

function reserved(of: { machineId: string; hostId: string }): Reservation {
  return {
    operationId: "o",
    ...of,
    cpuPercent: 60,
    memoryMib: 1_024,
    diskBytes: 2 ** 30 + 1,
    expiresAtMs: nowMs + 1,
  };
}

function known(more: Partial<Facts> = {}): Facts {
  return facts([host("north-1", "north"), host("south-1", "south")], [rank, test1, bobs], {
    environments: [ring, lab, foreign],
    ...more,
  });
}

test("a growth under way counts with what it has reserved", () => {
  expect(heldBy(rank, known())).toEqual({ cpu_percent: 20, memory_mib: 256 });
  const growing = known({ reservations: [reserved({ machineId: rank.id, hostId: "north-1" })] });
  expect(heldBy(rank, growing)).toEqual({ cpu_percent: 60, memory_mib: 1_024 });
  expect(movingOf(new Set([ring.id]), growing).machines).toBe(0);
});

test("a move under way holds its destination, for its environment and its owner", () => {
  const moving = known({ reservations: [reserved({ machineId: test1.id, hostId: "north-1" })] });
  const held = { machines: 1, cpu_percent: 60, memory_mib: 1_024, disk_gib: 2 };
  expect(movingOf(new Set([lab.id]), moving)).toEqual(held);
  expect(movingOf(new Set([ring.id]), moving).machines).toBe(0);
  expect(ownerOf(ring, moving).moving).toEqual(held);
  expect(ownerOf(foreign, moving).moving.machines).toBe(0);
});

test("an owner's other environments are summed, nobody else's", () => {
  const { others } = ownerOf(ring, known());
  expect(others).toMatchObject({
    environments: 1,
    machines: 1,
    vcpus: 1,
    cpu_percent: 50,
    memory_mib: 512,
    rate_mbps: 0,
  });
  expect(ownerOf(foreign, known()).others).toMatchObject({ environments: 0, machines: 0 });
});

test("shares of a site are told by environment, a move at both sites", () => {
  const moving = known({ reservations: [reserved({ machineId: rank.id, hostId: "south-1" })] });
  const shares = (siteId: string) => {
    const site = moving.sites.find(({ id }) => id === siteId);
    if (site === undefined) throw new Error(siteId);
    return sharesOf(site, moving, roomOf(moving));
  };
  const names = (siteId: string) => shares(siteId).rows.map(({ environment: of }) => of);
  expect(names("north")).toEqual(["ring"]);
  expect(names("south")).toEqual(["foreign", "lab", "ring"]);
  expect(shares("south").total).toBe(3);
  expect(shares("south").rows[2]).toMatchObject({ owner: "alice", memory_mib: 1_024 });
});

test("moves are one environment's, moved bytes an owner's", () => {
  const move = (of: Partial<RecentMove>): RecentMove => ({
    operationId: "o",
    environmentId: ring.id,
    owner: "alice",
    machineId: rank.id,
    machineName: "rank-0",
    cause: "guest",
    atMs: nowMs,
    fromSiteId: "north",
    toSiteId: "south",
    bytes: 100,
    downtimeMs: 1,
    outcome: "done",
    ...of,
  });
  const moves = [
    move({}),
    move({ environmentId: lab.id, bytes: 20 }),
    move({ environmentId: foreign.id, owner: "bob", bytes: 3 }),
  ];
  expect(movesOf(ring.id, moves).rows.map(({ bytes }) => bytes)).toEqual([100]);
  expect(ownerOf(ring, known({ moves })).moved_bytes).toBe(120);
});

test("what a stack declares is asked at its own point, an audit proposes nothing", () => {
  const asked = (type: "stack" | "guest") =>
    policyInput(
      request("resize", [{ machineId: rank.id, memoryMib: 300 }], {
        subject: { type, name: "x", roles: [] },
      }),
      known(),
      ring,
    );
  expect([asked("stack").point, asked("guest").point]).toEqual(["stack", "request"]);
  const audit = auditInput(known(), ring);
  expect([audit.point, audit.request.kind]).toEqual(["audit", "audit"]);
  for (const { proposed, ...one } of audit.environment.machines) {
    expect(one).toMatchObject({ ...proposed });
  }
});

test("only exemptions that a second person approved and that are not over are told", () => {
  const exemption = {
    id: "x",
    owner: "operator",
    rule: "freeze",
    instance: "i",
    environments: ["ring"],
    expiresAtMs: nowMs + 1,
    ticket: "T",
    reason: "",
    proposedBy: "sam",
    proposedAtMs: nowMs,
  };
  const approved = { ...exemption, id: "y", approvedBy: "eve", approvedAtMs: nowMs };
  const over = { ...approved, id: "z", expiresAtMs: nowMs };
  const { exemptions } = auditInput(known({ exemptions: [exemption, approved, over] }), ring);
  expect(exemptions.map(({ id, approved_by }) => [id, approved_by])).toEqual([["y", "eve"]]);
});
