/** The mesh between sites as it is derived: one for all environments, and nothing in the clear that nobody named. */
import type { HostRecord, TunnelEnd } from "@drover/shepherd/model/site";
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import { expect, test } from "@jest/globals";
import { hostRecord, machineRecord, networkRecord } from "./records.ts";

const ids = ["north-1", "north-2", "south-1", "east-1"];
const ends: readonly TunnelEnd[] = ids.map((hostId, index) => ({
  hostId,
  address: `100.127.0.${index + 1}`,
  generation: 0,
  keys: [{ generation: 0, publicKey: `key of ${hostId}` }],
}));
const underlayOf = (hostId: string) => `192.0.2.${ids.indexOf(hostId) + 1}`;

/** An environment each with the same addresses at every host; `clear` as the operator's configuration says it. */
function world(environments: readonly string[], clear: readonly string[] = []): NetworkState {
  const hosts = ids.map((id): HostRecord => {
    const host = hostRecord(id, underlayOf(id));
    const clearSites = clear.filter((site) => clear.includes(host.siteId) && site !== host.siteId);
    return { ...host, tunnel: { port: 51_820, clearSites } };
  });
  const networks = environments.map((name, index) => networkRecord(name, "lan", 0xd00000 + index));
  const machines = networks.flatMap((network) =>
    ids.map((hostId, index) =>
      machineRecord({
        environmentId: network.spec.environmentId,
        name: `rank-${index}`,
        hostId,
        networkIds: [network.id],
        address: `10.42.0.1${index}`,
      }),
    ),
  );
  return { hosts, networks, machines, links: [], incoming: [], tunnelEnds: ends };
}

test("a host has one tunnel device with a peer for each host of another site, however many environments there are", () => {
  const one = derive("north-1", world(["ring"])).tunnels;
  expect(one?.devices.map(({ peers }) => peers.map(({ publicKey }) => publicKey))).toEqual([
    ["key of east-1", "key of south-1"],
  ]);
  expect(one?.clearPeers).toEqual([underlayOf("north-2")]);
  const many = Array.from({ length: 50 }, (_, index) => `env-${index}`);
  const config = derive("north-1", world(many));
  expect(config.bridges).toHaveLength(50);
  expect(config.tunnels).toEqual(one);
});

test("what the operator leaves in the clear goes by the hosts' own addresses, between these two sites alone", () => {
  const config = derive("north-1", world(["ring"], ["north", "south"]));
  expect(config.tunnels?.clearPeers).toEqual([underlayOf("north-2"), underlayOf("south-1")]);
  expect(config.tunnels?.devices.flatMap(({ peers }) => peers.map((peer) => peer.address))).toEqual(
    ["100.127.0.4"],
  );
  expect(config.bridges[0]?.peers).toEqual(["100.127.0.4", "192.0.2.2", "192.0.2.3"]);
});

test("one side's word is enough, and a host of which no key is known is not met at all", () => {
  const state = world(["ring"], ["north", "south"]);
  const hosts = state.hosts.map((host) =>
    host.siteId === "south" ? { ...host, tunnel: { port: 51_820, clearSites: [] } } : host,
  );
  expect(derive("south-1", { ...state, hosts }).tunnels?.clearPeers).toEqual([
    underlayOf("north-1"),
    underlayOf("north-2"),
  ]);
  const unknown = {
    ...world(["ring"]),
    tunnelEnds: ends.filter(({ hostId }) => hostId !== "east-1"),
  };
  expect(derive("north-1", unknown).bridges[0]?.peers).toEqual(["100.127.0.3", "192.0.2.2"]);
});
