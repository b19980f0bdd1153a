import type { Facts } from "@drover/shepherd/model/facts";
import type { KeptApart, KeptTogether, MachineAsk } from "@drover/shepherd/model/request";
import { plan, sealPlan } from "@drover/shepherd/planner/plan";
import { describe, expect, test } from "@jest/globals";
import { facts, host, link, machine, nowMs, request, seen } from "./fleet.ts";

const north = [host("north-1", "north"), host("north-2", "north")];
const south = [host("south-1", "south", { memoryMib: 4096, cpuPercent: 800 })];
const at = (hostId: string) => ({ hostId, siteId: hostId.split("-")[0] ?? "" });

/** The plan as one line an action: what a person checks. */
function told(answer: ReturnType<typeof plan>): readonly string[] {
  if (answer.kind === "refused") return [answer.code, answer.message];
  return answer.actions.map((action) => {
    switch (action.kind) {
      case "create_machine":
        return `create ${action.machineId} at ${action.hostId} with ${action.sizing.memoryMib} MiB`;
      case "move_machine":
        return `move ${action.machineId} ${action.fromHostId} -> ${action.toHostId}`;
      case "restart_machine":
        return `restart ${action.machineId} at ${action.hostId}`;
      case "set_networks":
        return `cards ${action.machineId} at ${action.hostId}: ${action.networks.map(({ networkId, address }) => `${networkId} ${address ?? "any"}`).join(", ")}`;
      case "set_memory":
        return `memory ${action.machineId} ${action.fromMib} -> ${action.toMib}`;
      case "set_vcpus":
        return `vcpus ${action.machineId} ${action.from} -> ${action.to}`;
      case "set_cpu_percent":
        return `cpu ${action.machineId} ${action.from} -> ${action.to}`;
      case "set_cpu_weight":
        return `weight ${action.machineId} ${action.from} -> ${action.to}`;
      case "set_rate":
        return `rate ${action.linkId} ${action.fromMbps} -> ${action.toMbps}`;
      case "apply_network":
        return `network ${action.hostIds.join(",")}`;
      case "grow_volume":
        return `grow ${action.volumeId} at ${action.hostId} ${action.fromGib} -> ${action.toGib}`;
      case "remove_volume":
        return `remove ${action.volumeId} at ${action.hostId}`;
      case "sweep_host":
        return `sweep ${action.hostId}`;
      case "destroy_machine":
        return `destroy ${action.machineId} at ${action.hostId}`;
    }
  });
}

describe("resize", () => {
  const rank = machine("rank-0", at("north-1"));

  test("grows in place when the host has room, memory first and CPU last", () => {
    const answer = plan(
      request("resize", [{ machineId: rank.id, vcpus: 2, cpuPercent: 60, memoryMib: 320 }]),
      facts([...north, ...south], [rank]),
    );
    expect(told(answer)).toEqual([
      "memory m-ring-rank-0 256 -> 320",
      "vcpus m-ring-rank-0 1 -> 2",
      "cpu m-ring-rank-0 20 -> 60",
    ]);
  });

  test("moves to the other host of its site when its own has no room", () => {
    const neighbour = machine("big", at("north-1"), {
      environmentName: "neighbour",
      baseline: { memoryMib: 600 },
    });
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 800 }]),
      facts([...north, ...south], [rank, neighbour]),
    );
    expect(told(answer)).toEqual([
      "move m-ring-rank-0 north-1 -> north-2",
      "memory m-ring-rank-0 256 -> 800",
    ]);
  });

  test("crosses to another site only when no host of its own holds it", () => {
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 2000 }]),
      facts([...north, ...south], [rank]),
    );
    expect(told(answer)).toEqual([
      "move m-ring-rank-0 north-1 -> south-1",
      "memory m-ring-rank-0 256 -> 2000",
    ]);
    expect(answer).toMatchObject({
      explanation: { chosen: [{ hostId: "south-1" }], refusedBy: { lacks_memory: 1 } },
    });
  });

  test("stays inside the sites of its envelope, and says what each host lacks", () => {
    const home = machine("rank-0", at("north-1"), { envelope: { sites: ["north"] } });
    const answer = plan(
      request("resize", [{ machineId: home.id, memoryMib: 2000 }]),
      facts([...north, ...south], [home]),
    );
    expect(told(answer)).toEqual([
      "placement.no_host_fits",
      "No host fits rank-0 (1 vCPU, 20 %, 2000 MiB): 2 short of memory, 1 outside its sites.",
    ]);
  });

  test("does not go again to a site whose owner denied it", () => {
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 2000 }]),
      facts([...north, ...south], [rank]),
      { deniedSites: new Set(["south"]) },
    );
    expect(told(answer)).toEqual([
      "placement.no_host_fits",
      "No host fits rank-0 (1 vCPU, 20 %, 2000 MiB): 2 short of memory, 1 denied by its owner.",
    ]);
  });

  test("chooses no place that policy has ruled out for the machine, and says so", () => {
    const asked = request("resize", [{ machineId: rank.id, memoryMib: 2000 }]);
    const known = facts([...north, ...south], [rank]);
    const south1 = { machine: "rank-0", hostId: "south-1" };
    for (const place of [{ machine: "rank-0", siteId: "south" }, south1]) {
      expect(told(plan(asked, known, { limits: { avoid: [place] } }))).toEqual([
        "placement.no_host_fits",
        "No host fits rank-0 (1 vCPU, 20 %, 2000 MiB): 2 short of memory, 1 ruled out by policy.",
      ]);
    }
    const other = { machine: "rank-1", siteId: "south" };
    expect(plan(asked, known, { limits: { avoid: [other] } }).kind).toBe("planned");
  });

  test("brings no more of those together that policy keeps apart, also when it places both at once", () => {
    const web = ["web-0", "web-1"].map((name) =>
      machine(name, at("north-1"), { envelope: { sites: ["north", "south"] } }),
    );
    const asked = request(
      "move",
      web.map(({ id }) => ({ machineId: id, siteId: "south" })),
    );
    const known = facts([...north, host("south-1", "south"), host("south-2", "south")], web);
    const hostsOf = (apart: readonly KeptApart[]) => {
      const answer = plan(asked, known, { limits: { apart } });
      if (answer.kind !== "planned") return answer.message;
      return answer.actions.flatMap((action) =>
        action.kind === "move_machine" ? [action.toHostId] : [],
      );
    };
    const kept = { machines: ["web-0", "web-1"], per: "host", most: 1 } as const;
    expect(hostsOf([kept])).toEqual(expect.arrayContaining(["south-1", "south-2"]));
    expect(hostsOf([{ ...kept, per: "site" }])).toMatch(/2 ruled out by policy/);
    expect(hostsOf([{ ...kept, per: "site", most: 2 }])).toHaveLength(2);
    expect(hostsOf([{ ...kept, machines: ["web-0", "db-0"], per: "site" }])).toHaveLength(2);
  });

  describe("those that policy keeps together", () => {
    const pair = ["web-0", "web-1"].map((name) =>
      machine(name, at("north-1"), { envelope: { sites: ["north", "south"] } }),
    );
    const kept = { machines: ["web-0", "web-1"], per: "host", most: 1 } as const;
    const hostsOf = (
      known: Facts,
      together: readonly KeptTogether[],
      moved: readonly MachineAsk[],
    ) => {
      const answer = plan(request("move", moved), known, { limits: { together } });
      if (answer.kind !== "planned") return answer.message;
      return answer.actions.flatMap((action) =>
        action.kind === "move_machine" ? [action.toHostId] : [],
      );
    };
    const both = pair.map(({ id }) => ({ machineId: id, siteId: "south" }));

    test("end up at one place, where both fit", () => {
      const known = facts(
        [
          ...north,
          host("south-1", "south", { memoryMib: 300 }),
          host("south-2", "south", { memoryMib: 600 }),
        ],
        pair,
      );
      expect(hostsOf(known, [], both)).toEqual(expect.arrayContaining(["south-1", "south-2"]));
      expect(hostsOf(known, [kept], both)).toEqual(["south-2", "south-2"]);
    });

    test("do not move when no place holds both, and the plan says who ruled", () => {
      const small = { memoryMib: 300 };
      const known = facts(
        [...north, host("south-1", "south", small), host("south-2", "south", small)],
        pair,
      );
      expect(hostsOf(known, [kept], both)).toMatch(/1 ruled out by policy/);
      expect(hostsOf(known, [{ ...kept, most: 2 }], both)).toHaveLength(2);
      expect(hostsOf(known, [{ ...kept, per: "site" }], both)).toHaveLength(2);
    });

    test("are not torn apart by a move of one, and may stay as far apart as they are", () => {
      const [first] = both;
      if (first === undefined) throw new Error("there are two");
      const south1 = host("south-1", "south");
      expect(hostsOf(facts([...north, south1], pair), [kept], [first])).toMatch(
        /1 ruled out by policy/,
      );
      const apart = pair.map((one, index) =>
        index === 0 ? one : machine("web-1", at("north-2"), { envelope: one.spec.envelope }),
      );
      expect(hostsOf(facts([...north, south1], apart), [kept], [first])).toEqual(["south-1"]);
    });
  });

  test("lets a machine stay where policy would not put it", () => {
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 300 }]),
      facts([...north, ...south], [rank]),
      { limits: { avoid: [{ machine: "rank-0", siteId: "north" }] } },
    );
    expect(answer.kind).toBe("planned");
  });

  test("takes no host where the move would keep it still for longer than policy allows", () => {
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 2000 }]),
      facts([...north, ...south], [rank]),
      { limits: { maxDowntimeMs: 10 } },
    );
    expect(answer).toMatchObject({ refusedBy: { downtime_above_limit: 1 } });
  });

  test("counts foreign machines, reservations and what the host itself says is free", () => {
    const used = [
      host("north-1", "north", {}, { foreign: { count: 1, cpuPercent: 0, memoryMib: 300 } }),
      host("north-2", "north", {}, { freeMemoryMib: 400 }),
      host("north-3", "north"),
    ];
    const reserved = {
      operationId: "o",
      hostId: "north-3",
      machineId: "m-other",
      cpuPercent: 0,
      memoryMib: 600,
      diskBytes: 0,
      expiresAtMs: nowMs + 1,
    };
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 800 }]),
      facts(used, [rank], { reservations: [reserved] }),
    );
    expect(answer).toMatchObject({ kind: "refused", refusedBy: { lacks_memory: 3 } });
  });

  test("a balloon that has not deflated yet still holds its pages", () => {
    const shrinking = machine("lazy", at("north-1"), { environmentName: "neighbour" });
    const answer = plan(
      request("resize", [{ machineId: rank.id, memoryMib: 700 }]),
      facts([host("north-1", "north")], [rank, shrinking], {
        observed: seen(shrinking, { memoryMib: 500, memoryTargetMib: 256 }),
      }),
    );
    expect(answer).toMatchObject({ kind: "refused", refusedBy: { lacks_memory: 1 } });
  });

  test("above what it was booted able to reach it is refused", () => {
    expect(
      told(
        plan(request("resize", [{ machineId: rank.id, vcpus: 3 }]), facts([...north], [rank])),
      )[0],
    ).toBe("placement.ceiling");
  });

  test("nothing grows on a host that does not answer", () => {
    expect(
      told(
        plan(
          request("resize", [{ machineId: rank.id, memoryMib: 300 }]),
          facts([host("north-1", "north", {}, { state: "degraded" })], [rank]),
        ),
      )[0],
    ).toBe("placement.site_unavailable");
  });

  test("a whole group: one leaves so that the others can grow, and the one with the least to copy goes", () => {
    const ranks = [0, 1, 2].map((n) =>
      machine(`rank-${n}`, at("north-1"), { baseline: { memoryMib: n === 1 ? 200 : 256 } }),
    );
    const answer = plan(
      request(
        "resize",
        ranks.map(({ id }) => ({ machineId: id, memoryMib: 400 })),
        {
          group: "rank",
        },
      ),
      facts([...north, ...south], ranks),
    );
    expect(told(answer)).toEqual([
      "move m-ring-rank-1 north-1 -> north-2",
      "memory m-ring-rank-0 256 -> 400",
      "memory m-ring-rank-1 200 -> 400",
      "memory m-ring-rank-2 256 -> 400",
    ]);
  });

  test("a whole group is refused whole when one member finds no place", () => {
    const ranks = [0, 1, 2].map((n) =>
      machine(`rank-${n}`, at("north-1"), { envelope: { sites: ["north"] } }),
    );
    const answer = plan(
      request(
        "resize",
        ranks.map(({ id }) => ({ machineId: id, memoryMib: 1000 })),
      ),
      facts(north, ranks),
    );
    expect(answer.kind).toBe("refused");
  });
});

describe("the other kinds", () => {
  const rank = machine("rank-0", at("north-1"), {
    effective: { memoryMib: 800, cpuPercent: 60, vcpus: 2 },
    baseline: { memoryMib: 256 },
  });
  const created = machine("rank-0", { hostId: "", siteId: "north" });

  test.each([
    [
      "create goes to the emptier host of its site",
      request("create", [{ machineId: created.id, memoryMib: 300 }]),
      [created, machine("other", at("north-1"), { environmentName: "neighbour" })],
      ["create m-ring-rank-0 at north-2 with 300 MiB"],
    ],
    [
      "release lowers everything to the baseline",
      request("release", [{ machineId: rank.id }]),
      [rank],
      [
        "memory m-ring-rank-0 800 -> 256",
        "vcpus m-ring-rank-0 2 -> 1",
        "cpu m-ring-rank-0 60 -> 20",
      ],
    ],
    [
      "move goes to the best host of the site asked for",
      request("move", [{ machineId: rank.id, siteId: "south" }]),
      [rank],
      ["move m-ring-rank-0 north-1 -> south-1"],
    ],
    [
      "move to where it is already is no action",
      request("move", [{ machineId: rank.id, siteId: "north" }]),
      [rank],
      [],
    ],
    [
      "destroy names the host that runs it",
      request("destroy", [{ machineId: rank.id }]),
      [rank],
      ["destroy m-ring-rank-0 at north-1"],
    ],
  ])("%s", (_, asked, machines, expected) => {
    expect(told(plan(asked, facts([...north, ...south], machines)))).toEqual(expected);
  });

  test("release never raises what was given back below the baseline", () => {
    const small = machine("rank-0", at("north-1"), { effective: { memoryMib: 128 } });
    expect(
      told(plan(request("release", [{ machineId: small.id }]), facts(north, [small]))),
    ).toEqual([]);
  });

  test("repair puts back what somebody changed behind our back, one MiB aside", () => {
    const plain = machine("rank-0", at("north-1"));
    const told1 = (memoryTargetMib: number) =>
      told(
        plan(
          request("repair", [{ machineId: plain.id }]),
          facts(north, [plain], { observed: seen(plain, { memoryTargetMib }) }),
        ),
      );
    expect(told1(300)).toEqual(["memory m-ring-rank-0 300 -> 256", "network north-1"]);
    expect(told1(257)).toEqual(["network north-1"]);
  });

  test("an update to the value in force repairs foreign drift of that attribute", () => {
    const plain = machine("rank-0", at("north-1"));
    const answer = plan(
      request("update", [{ machineId: plain.id, memoryMib: 256 }]),
      facts(north, [plain], { observed: seen(plain, { memoryTargetMib: 300 }) }),
    );
    expect(told(answer)).toEqual(["memory m-ring-rank-0 300 -> 256"]);
  });

  test("a weight: the stack's word, after sizes; a repair puts back what somebody else gave it", () => {
    const plain = machine("rank-0", at("north-1"));
    const asked = (kind: "update" | "repair", cpuWeight?: number, liveWeight?: number) =>
      told(
        plan(
          request(kind, [
            {
              machineId: plain.id,
              ...(cpuWeight === undefined ? {} : { cpuWeight, cpuPercent: 40 }),
            },
          ]),
          facts(north, [plain], { observed: seen(plain, { cpuWeight: liveWeight }) }),
        ),
      );
    expect(asked("update", 300)).toEqual([
      "cpu m-ring-rank-0 20 -> 40",
      "weight m-ring-rank-0 100 -> 300",
    ]);
    expect(asked("update", 100)).toEqual(["cpu m-ring-rank-0 20 -> 40"]);
    expect(asked("update", 100, 300)).toContain("weight m-ring-rank-0 300 -> 100");
    expect(asked("repair", undefined, 300)).toContain("weight m-ring-rank-0 300 -> 100");
    expect(asked("repair")).toEqual(["network north-1"]);
  });

  test("rates of links", () => {
    const between = link("rank-0", "rank-1", 200);
    const asked = request("rate", [], { links: [{ linkId: between.id, rateMbps: 500 }] });
    expect(told(plan(asked, facts(north, [rank], { links: [between] })))).toEqual([
      "rate l-rank-0-rank-1 200 -> 500",
    ]);
  });
});

test("the digest names the request and its actions, not the plan's id or time", () => {
  const rank = machine("rank-0", at("north-1"));
  const asked = request("resize", [{ machineId: rank.id, memoryMib: 300 }]);
  const drafted = plan(asked, facts(north, [rank]));
  if (drafted.kind === "refused") throw new Error("refused");
  const one = sealPlan(drafted, { id: "p1", request: asked, createdAtMs: 1 });
  const two = sealPlan(drafted, { id: "p2", request: asked, createdAtMs: 2 });
  const other = sealPlan(drafted, { id: "p1", request: { ...asked, id: "r2" }, createdAtMs: 1 });
  expect(one.digest).toBe(two.digest);
  expect(other.digest).not.toBe(one.digest);
});
