import { plan } from "@drover/shepherd/planner/plan";
import { describe, expect, test } from "@jest/globals";
import { networkRecord } from "../network/records.ts";
import { facts, host, link, machine, networkLink, request } from "./fleet.ts";

/** Two hosts of 100 Mbit/s at north, one at south; south is reached with 50 Mbit/s. */
const hosts = [
  host("north-1", "north", {}, { uplinkMbps: 100 }),
  host("north-2", "north", {}, { uplinkMbps: 100 }),
  host("south-1", "south"),
];
const at = (name: string, hostId: string) =>
  machine(
    name,
    { hostId, siteId: hostId.split("-")[0] ?? "" },
    { spec: { networks: [{ networkId: lan.id }] } },
  );
const lan = networkRecord("env-ring", "lan", 0xd00000);
const world = (machines: ReturnType<typeof at>[], links: ReturnType<typeof link>[]) => {
  const found = facts(hosts, machines, { links, networks: [lan] });
  const sites = found.sites.map((site) =>
    site.id === "north" ? { ...site, pathMbps: { south: 50 } } : site,
  );
  return { ...found, sites };
};
const rate = (linkId: string, rateMbps: number) =>
  request("rate", [], { links: [{ linkId, rateMbps }] });

describe("a promise", () => {
  const spread = [at("rank-0", "north-1"), at("rank-1", "north-2"), at("rank-2", "south-1")];

  test.each([
    ["fits the uplinks of both hosts", "l-rank-0-rank-1", 100, undefined],
    ["is above an uplink", "l-rank-0-rank-1", 101, "the uplink of north-1"],
    ["fits the path between sites", "l-rank-0-rank-2", 50, undefined],
    ["is above the path between sites", "l-rank-0-rank-2", 60, "the path between north and south"],
  ])("that %s", (_sentence, linkId, rateMbps, full) => {
    const links = [{ ...link("rank-0", "rank-1", 0) }, { ...link("rank-0", "rank-2", 0) }];
    const answer = plan(rate(linkId, rateMbps), world(spread, links));
    expect(answer).toMatchObject(
      full === undefined
        ? { kind: "planned" }
        : { kind: "refused", code: "placement.uplink_full", refusedBy: { [full]: 1 } },
    );
  });

  test.each([
    ["fits its uplink and the paths to its network's sites", 50, undefined],
    ["is above the path to a site where its network is", 60, "the path between north and south"],
    ["is above its uplink", 101, "the uplink of north-1"],
  ])("of a machine with its network that %s", (_sentence, rateMbps, full) => {
    const answer = plan(
      rate("l-rank-0@lan", rateMbps),
      world(spread, [networkLink("rank-0", "lan", 0)]),
    );
    expect(answer).toMatchObject(
      full === undefined
        ? { kind: "planned" }
        : { kind: "refused", code: "placement.uplink_full", refusedBy: { [full]: 1 } },
    );
  });

  test("of a machine with a network that is on its host alone uses no uplink", () => {
    const alone = [at("rank-0", "north-1"), at("rank-1", "north-1")];
    const answer = plan(
      rate("l-rank-0@lan", 5_000),
      world(alone, [networkLink("rank-0", "lan", 0)]),
    );
    expect(answer.kind).toBe("planned");
  });

  test("is refused with the nearest that would pass", () => {
    const links = [link("rank-0", "rank-1", 70), link("rank-0", "rank-2", 20)];
    expect(plan(rate("l-rank-0-rank-1", 90), world(spread, links))).toMatchObject({
      message:
        "the uplink of north-1 carries 100 Mbit/s, and 110 Mbit/s would be promised over it; a link of 80 fits",
      nearest: { rate_mbps: 80 },
    });
  });

  test("between machines of one host uses no uplink", () => {
    const together = [at("rank-0", "north-1"), at("rank-1", "north-1")];
    const answer = plan(
      rate("l-rank-0-rank-1", 5_000),
      world(together, [link("rank-0", "rank-1", 0)]),
    );
    expect(answer.kind).toBe("planned");
  });

  test("that is lowered passes, also where too much was promised before", () => {
    const links = [link("rank-0", "rank-1", 300)];
    expect(plan(rate("l-rank-0-rank-1", 200), world(spread, links)).kind).toBe("planned");
  });
});

test("a move that would put a promise on a path that cannot carry it is refused", () => {
  const machines = [
    machine(
      "rank-0",
      { hostId: "north-1", siteId: "north" },
      { envelope: { sites: ["north", "south"] } },
    ),
    at("rank-1", "north-1"),
  ];
  const move = request("move", [{ machineId: "m-rank-0", siteId: "south" }]);
  const asked = (rateMbps: number) =>
    plan(
      { ...move, machines: [{ machineId: machines[0]?.id ?? "", siteId: "south" }] },
      world(machines, [link("rank-0", "rank-1", rateMbps)]),
    );
  expect(asked(40).kind).toBe("planned");
  expect(asked(60)).toMatchObject({ code: "placement.uplink_full" });
});
