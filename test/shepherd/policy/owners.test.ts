/** Whose consent an ask needs, by the sites that it is about. */
import { sitesOfPlan, sitesOfRequest } from "@drover/shepherd/policy/owners";
import { expect, test } from "@jest/globals";
import { networkRecord } from "../network/records.ts";
import { facts, host, link, machine, networkLink, request } from "../planner/fleet.ts";

const lan = networkRecord("env-ring", "lan", 0xd00000);
const at = (name: string, siteId: string, networks = [{ networkId: lan.id }]) =>
  machine(name, { hostId: `${siteId}-1`, siteId }, { spec: { networks } });
const links = [networkLink("rank-0", "lan", 10), link("rank-0", "rank-1", 10)];
const known = facts(
  ["north", "south", "east", "west"].map((siteId) => host(`${siteId}-1`, siteId)),
  [at("rank-0", "north"), at("rank-1", "south"), at("rank-2", "east"), at("alone", "west", [])],
  { links, networks: [lan] },
);

test.each([
  [
    "a link with a network: every site where the network has a machine",
    0,
    ["east", "north", "south"],
  ],
  ["a link of two machines: their sites", 1, ["north", "south"]],
] as const)("%s", (_what, index, siteIds) => {
  const asked = request("rate", [], { links: [{ linkId: links[index]?.id ?? "", rateMbps: 20 }] });
  expect(sitesOfRequest(asked, known)).toEqual(siteIds);
  const plan = { planId: "p", actions: [], reservations: [] };
  expect(sitesOfPlan(plan as never, asked, known)).toEqual(siteIds);
});
