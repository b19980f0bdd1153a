import type { Nic, NicSpec } from "@drover/shepherd/model/objects";
import { hasCards, matchCards } from "@drover/shepherd/planner/cards";
import { plan } from "@drover/shepherd/planner/plan";
import { describe, expect, test } from "@jest/globals";
import { facts, host, machine, request } from "./fleet.ts";

const nic = (networkId: string, address: string): Nic => ({
  networkId,
  address,
  prefixLength: 24,
  mac: `mac of ${address}`,
  tap: `tap of ${address}`,
});
const lan = nic("lan", "10.0.0.10");
const side = nic("side", "10.1.0.10");
const other = nic("lan", "10.0.0.11");

describe("cards that stay", () => {
  test.each<
    [string, readonly Nic[], readonly NicSpec[], readonly (Nic | undefined)[], readonly Nic[]]
  >([
    ["all, where nothing changes", [lan], [{ networkId: "lan" }], [lan], []],
    ["one is more", [lan], [{ networkId: "lan" }, { networkId: "side" }], [lan, undefined], []],
    ["one is less", [lan, side], [{ networkId: "side" }], [side], [lan]],
    ["another order", [lan, side], [{ networkId: "side" }, { networkId: "lan" }], [side, lan], []],
    [
      "another address is another card",
      [lan],
      [{ networkId: "lan", address: "10.0.0.20" }],
      [undefined],
      [lan],
    ],
    [
      "a named address is not taken by who leaves it open",
      [lan, other],
      [{ networkId: "lan" }, { networkId: "lan", address: "10.0.0.10" }],
      [other, lan],
      [],
    ],
    ["none", [lan], [], [], [lan]],
  ])("%s", (_, nics, wanted, kept, gone) => {
    expect(matchCards(nics, wanted)).toEqual({ kept, gone });
  });

  test("a machine has its cards when they are those of its specification, in that order", () => {
    expect(hasCards([lan, side], [{ networkId: "lan" }, { networkId: "side" }])).toBe(true);
    expect(hasCards([lan, side], [{ networkId: "side" }, { networkId: "lan" }])).toBe(false);
    expect(hasCards([lan], [{ networkId: "lan" }, { networkId: "side" }])).toBe(false);
    expect(hasCards([lan, side], [{ networkId: "lan" }])).toBe(false);
  });
});

describe("a plan", () => {
  const north = [host("north-1", "north")];
  const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
  const networks = [{ networkId: "lan" }, { networkId: "side" }];
  const spec = { ...rank.spec, networks };
  const update = { baseline: spec.baseline, envelope: spec.envelope, spec };
  const asks = [{ machineId: rank.id, memoryMib: 320 }];

  test("plugs what an update names, before memory grows", () => {
    const answer = plan({ ...request("update", asks), update }, facts(north, [rank]));
    expect(answer).toMatchObject({
      actions: [
        { kind: "set_networks", machineId: rank.id, hostId: "north-1", networks },
        { kind: "set_memory", toMib: 320 },
      ],
    });
  });

  test("leaves cards alone when somebody asks for size", () => {
    const strayed = { ...rank, spec };
    expect(plan(request("resize", asks), facts(north, [strayed]))).toMatchObject({
      actions: [{ kind: "set_memory" }],
    });
  });
});
