/** The small world of the network room's golden tests: a ring of three at two sites, with two links. */
import type { NetworkState } from "@drover/shepherd/network/derive";
import { hostRecord, linkRecord, machineRecord, networkRecord } from "./records.ts";

export const lan = networkRecord("ring", "lan", 0xd00000);
export const rank = (index: number, hostId: string) =>
  machineRecord({
    environmentId: "ring",
    name: `rank-${index}`,
    hostId,
    networkIds: [lan.id],
    address: `10.42.0.1${index}`,
  });
export const ring: NetworkState = {
  hosts: [
    hostRecord("north-1", "10.1.0.1"),
    hostRecord("north-2", "10.1.0.2"),
    hostRecord("south-1", "10.2.0.1"),
  ],
  networks: [lan],
  machines: [rank(0, "north-1"), rank(1, "north-2"), rank(2, "south-1")],
  links: [
    linkRecord("ring", ["rank-0", "rank-1"], 200),
    linkRecord("ring", ["rank-0", "rank-2"], 50),
  ],
  incoming: [],
};
