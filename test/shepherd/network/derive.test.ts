import type { MachineState } from "@drover/shepherd/model/objects";
import { derive, hostsOfNetwork, type NetworkState } from "@drover/shepherd/network/derive";
import {
  bridgeName,
  freeMacAddress,
  lowestFreeVni,
  macAddress,
  shaperName,
  tapName,
  vxlanName,
} from "@drover/shepherd/network/names";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import {
  hostRecord,
  linkRecord,
  machineRecord,
  networkLinkRecord,
  networkRecord,
} from "./records.ts";

const hosts = [
  hostRecord("north-1", "10.1.0.1"),
  hostRecord("north-2", "10.1.0.2"),
  hostRecord("south-1", "10.2.0.1"),
];
const lan = networkRecord("ring", "lan", 0xd00000);
const neighbourLan = networkRecord("neighbour", "lan", 0xd00001);
const rank = (index: number, hostId: string, state?: MachineState) =>
  machineRecord({
    environmentId: "ring",
    name: `rank-${index}`,
    hostId,
    networkIds: [lan.id],
    address: `10.42.0.1${index}`,
    ...(state === undefined ? {} : { state }),
  });
const neighbour = machineRecord({
  environmentId: "neighbour",
  name: "alone",
  hostId: "north-1",
  networkIds: [neighbourLan.id],
  address: "10.42.0.10",
});
const ring: NetworkState = {
  hosts,
  networks: [lan, neighbourLan],
  machines: [rank(0, "north-1"), rank(1, "north-2"), rank(2, "south-1"), neighbour],
  links: [
    linkRecord("ring", ["rank-0", "rank-1"], 200),
    linkRecord("ring", ["rank-0", "rank-2"], 50),
  ],
  incoming: [],
};

describe("names", () => {
  test("fit the kernel's 15 characters, carry our prefix and differ by kind", () => {
    const names = [
      bridgeName(lan.id),
      vxlanName(lan.id),
      tapName("m", 0),
      tapName("m", 1),
      shaperName(tapName("m", 0)),
    ];
    expect(names.every((name) => /^dv[bxti][0-9a-f]{12}$/.test(name))).toBe(true);
    expect(new Set(names).size).toBe(names.length);
  });

  test("a MAC that is taken gives way to the next of its row", () => {
    const first = macAddress("m", 0);
    const second = freeMacAddress("m", 0, new Set([first]));
    expect(first).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
    expect(second).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
    expect(second).not.toBe(first);
    expect(freeMacAddress("m", 0, new Set())).toBe(first);
  });

  test("the lowest free VNI fills gaps", () => {
    expect(lowestFreeVni(new Set())).toBe(0xd00000);
    expect(lowestFreeVni(new Set([0xd00000, 0xd00002]))).toBe(0xd00001);
  });
});

describe("derive", () => {
  test.each([
    ["is being destroyed", rank(1, "north-2", "destroying")],
    ["has no host yet", rank(1, "", "creating")],
  ])(
    "a machine that %s is named nowhere: its record goes, and no host has to be told",
    (_, gone) => {
      const { serviceAddress, domain } = { serviceAddress: "10.42.0.254", domain: "ring.internal" };
      const served = { ...lan, effective: { ...lan.effective, serviceAddress, domain } };
      const others = [rank(0, "north-1"), rank(2, "south-1"), neighbour];
      const state = { ...ring, networks: [served, neighbourLan] };
      for (const { id } of hosts) {
        const config = derive(id, { ...state, machines: [gone, ...others] });
        expect(config).toEqual(derive(id, { ...state, machines: others }));
      }
      const { bridges } = derive("north-1", { ...state, machines: others });
      const bridge = bridges.find(({ networkId }) => networkId === lan.id);
      expect(bridge?.services?.machines.map(({ name }) => name)).toEqual(["rank-0", "rank-2"]);
    },
  );

  test("gives a host its ports, the way to all others and both rates of its machine", () => {
    const mac = (index: number) => macAddress(`machine-ring-rank-${index}`, 0);
    const config = derive("north-1", ring);
    expect(config.bridges.find((bridge) => bridge.networkId === lan.id)).toEqual({
      networkId: lan.id,
      bridge: bridgeName(lan.id),
      vxlan: vxlanName(lan.id),
      vni: 0xd00000,
      mtu: 1450,
      localAddress: "10.1.0.1",
      peers: ["10.1.0.2", "10.2.0.1"],
      remotes: [
        { mac: mac(1), address: "10.1.0.2", guestAddress: "10.42.0.11" },
        { mac: mac(2), address: "10.2.0.1", guestAddress: "10.42.0.12" },
      ].toSorted((left, right) => (left.mac < right.mac ? -1 : 1)),
      ports: [
        {
          tap: tapName("machine-ring-rank-0", 0),
          mac: mac(0),
          address: "10.42.0.10",
          blocked: false,
          rates: [
            { peerMac: mac(1), rateMbps: 200 },
            { peerMac: mac(2), rateMbps: 50 },
          ].toSorted((left, right) => (left.peerMac < right.peerMac ? -1 : 1)),
        },
      ],
    });
  });

  test("a link with the network is the machine's alone, beside its links with single machines", () => {
    const links = [
      ...ring.links,
      networkLinkRecord("ring", { machine: "rank-0", network: "lan" }, 30),
      networkLinkRecord("ring", { machine: "rank-1", network: "another" }, 30),
    ];
    const ratesAt = (hostId: string, of: NetworkState["links"] = links) =>
      derive(hostId, { ...ring, links: of }).bridges.find(({ networkId }) => networkId === lan.id)
        ?.ports[0]?.rates ?? [];
    expect(ratesAt("north-1")).toEqual([{ rateMbps: 30 }, ...ratesAt("north-1", ring.links)]);
    expect(ratesAt("north-2")).toEqual(ratesAt("north-2", ring.links));
    expect(ratesAt("north-2")).toHaveLength(1);
  });

  test("a host without machines of a network does not carry it", () => {
    expect(derive("south-1", ring).bridges.map((bridge) => bridge.networkId)).toEqual([lan.id]);
    expect(derive("south-1", { ...ring, machines: [] })).toEqual({
      hostId: "south-1",
      bridges: [],
    });
  });

  test("a machine that arrives is a blocked port there and still reached where it runs", () => {
    const state = {
      ...ring,
      incoming: [{ machineId: "machine-ring-rank-0", hostId: "south-1" }],
    };
    const bridge = derive("south-1", state).bridges[0];
    const mac = macAddress("machine-ring-rank-0", 0);
    expect(bridge?.ports.map((port) => [port.mac, port.blocked])).toContainEqual([mac, true]);
    expect(bridge?.remotes).toContainEqual({
      mac,
      address: "10.1.0.1",
      guestAddress: "10.42.0.10",
    });
    // The hosts that it does not arrive at see no difference until the flip.
    expect(derive("north-2", state)).toEqual(derive("north-2", ring));
  });

  test("the flip of one machine changes its own entries and nothing else", () => {
    const before = { ...ring, incoming: [{ machineId: "machine-ring-rank-0", hostId: "south-1" }] };
    const after = {
      ...ring,
      machines: ring.machines.map((machine) =>
        machine.id === "machine-ring-rank-0" ? rank(0, "south-1", "moving") : machine,
      ),
    };
    const mac = macAddress("machine-ring-rank-0", 0);
    const without = (hostId: string, state: NetworkState) =>
      derive(hostId, state).bridges.map((bridge) => ({
        ...bridge,
        peers: [],
        remotes: bridge.remotes.filter((remote) => remote.mac !== mac),
        ports: bridge.ports.filter((port) => port.mac !== mac),
      }));
    const onNorth2 = derive("north-2", after).bridges[0];
    expect(onNorth2?.remotes).toContainEqual({
      mac,
      address: "10.2.0.1",
      guestAddress: "10.42.0.10",
    });
    expect(without("south-1", after)).toEqual(without("south-1", before));
    // north-1 held nothing else of the network: it carries it no longer, and is no peer.
    expect(onNorth2?.peers).toEqual(["10.2.0.1"]);
    expect(derive("north-1", after).bridges.map((bridge) => bridge.networkId)).toEqual([
      neighbourLan.id,
    ]);
  });

  test("a machine that is stopped, gone or not placed has no port anywhere", () => {
    for (const state of ["stopped", "failed", "destroying"] as const) {
      const gone = { ...ring, machines: [rank(0, "north-1", state)] };
      expect(hosts.flatMap((host) => derive(host.id, gone).bridges)).toEqual([]);
    }
    const unplaced = { ...ring, machines: [rank(0, "", "creating")] };
    expect(hosts.flatMap((host) => derive(host.id, unplaced).bridges)).toEqual([]);
  });
});

const hostIds = hosts.map((host) => host.id);
const states: readonly MachineState[] = ["creating", "running", "moving", "unknown", "stopped"];
const anyState = fc
  .array(
    fc.record({
      environment: fc.constantFrom("ring", "neighbour"),
      hostId: fc.constantFrom(...hostIds, ""),
      state: fc.constantFrom(...states),
      arrivesAt: fc.option(fc.constantFrom(...hostIds), { nil: undefined, freq: 3 }),
    }),
    { maxLength: 12 },
  )
  .map((rows): NetworkState => {
    const machines = rows.map((row, index) =>
      machineRecord({
        environmentId: row.environment,
        name: `m-${index}`,
        hostId: row.hostId,
        networkIds: [row.environment === "ring" ? lan.id : neighbourLan.id],
        address: `10.42.0.${10 + index}`,
        state: row.state,
      }),
    );
    return {
      hosts,
      networks: [lan, neighbourLan],
      machines,
      links: machines
        .slice(1)
        .map((machine, index) =>
          linkRecord(
            machine.spec.environmentId,
            [`m-${index}`, machine.spec.name],
            10 * (index + 1),
          ),
        ),
      incoming: machines.flatMap((machine, index) => {
        const hostId = rows[index]?.arrivesAt;
        return hostId === undefined || hostId === machine.effective.hostId
          ? []
          : [{ machineId: machine.id, hostId }];
      }),
    };
  });

describe("for any state", () => {
  test("the order of records does not matter", () => {
    fc.assert(
      fc.property(anyState, fc.constantFrom(...hostIds), (state, hostId) => {
        const reversed: NetworkState = {
          hosts: state.hosts.toReversed(),
          networks: state.networks.toReversed(),
          machines: state.machines.toReversed(),
          links: state.links.toReversed(),
          incoming: state.incoming.toReversed(),
        };
        expect(JSON.stringify(derive(hostId, reversed))).toBe(
          JSON.stringify(derive(hostId, state)),
        );
      }),
    );
  });

  test("no machine has both an open port and a remote entry, and at most one open port exists", () => {
    fc.assert(
      fc.property(anyState, (state) => {
        const open = new Map<string, number>();
        for (const hostId of hostIds) {
          for (const bridge of derive(hostId, state).bridges) {
            const remote = new Set(bridge.remotes.map((entry) => entry.mac));
            for (const port of bridge.ports.filter((candidate) => !candidate.blocked)) {
              expect(remote.has(port.mac)).toBe(false);
              open.set(port.mac, (open.get(port.mac) ?? 0) + 1);
            }
          }
        }
        expect([...open.values()].every((count) => count === 1)).toBe(true);
      }),
    );
  });

  test("every remote entry points at the host where that port is open", () => {
    fc.assert(
      fc.property(anyState, (state) => {
        for (const hostId of hostIds) {
          for (const bridge of derive(hostId, state).bridges) {
            for (const remote of bridge.remotes) {
              const target = hosts.find((host) => host.migrationAddress === remote.address);
              const there = derive(target?.id ?? "", state).bridges.find(
                (candidate) => candidate.networkId === bridge.networkId,
              );
              expect(there?.ports.some((port) => port.mac === remote.mac && !port.blocked)).toBe(
                true,
              );
              expect(bridge.peers).toContain(remote.address);
            }
          }
        }
      }),
    );
  });

  test("two networks with the same CIDR share no device, identifier or MAC", () => {
    fc.assert(
      fc.property(anyState, fc.constantFrom(...hostIds), (state, hostId) => {
        const things = derive(hostId, state).bridges.map((bridge) => [
          bridge.bridge,
          bridge.vxlan,
          bridge.vni,
          ...bridge.remotes.map((remote) => remote.mac),
          ...bridge.ports.flatMap((port) => [port.tap, port.mac]),
        ]);
        const [left = [], right = []] = things;
        // Within a network an arriving machine is named twice: as a blocked port and as a remote.
        expect(left.filter((thing) => right.includes(thing))).toEqual([]);
      }),
    );
  });

  test("4,000 networks on one host have names, identifiers and namespaces of their own, and fit the kernel", () => {
    const lans = Array.from({ length: 4_000 }, (_, index) => {
      const record = networkRecord("many", `lan-${index}`, 0xd00000 + index);
      const services = { serviceAddress: "10.42.0.254", domain: "many.internal" };
      return { ...record, effective: { ...record.effective, ...services } };
    });
    const machines = lans.map((one, index) =>
      machineRecord({
        environmentId: "many",
        name: `m-${index}`,
        hostId: "north-1",
        networkIds: [one.id],
        address: "10.42.0.10",
      }),
    );
    const { bridges } = derive("north-1", {
      hosts,
      networks: lans,
      machines,
      links: [],
      incoming: [],
    });
    const names = bridges.flatMap((bridge) => [
      bridge.bridge,
      bridge.vxlan,
      ...bridge.ports.map((port) => port.tap),
      bridge.services?.device ?? "",
      bridge.services?.namespace ?? "",
    ]);
    expect(names.length).toBe(20_000);
    expect(new Set(names).size).toBe(20_000);
    expect(Math.max(...names.map((each) => each.length))).toBe(15);
    expect(new Set(bridges.map((bridge) => bridge.vni)).size).toBe(4_000);
  });

  test("hostsOfNetwork names exactly the hosts whose config has it", () => {
    fc.assert(
      fc.property(anyState, (state) => {
        const carrying = hostIds.filter((hostId) =>
          derive(hostId, state).bridges.some((bridge) => bridge.networkId === lan.id),
        );
        expect(hostsOfNetwork(lan.id, state)).toEqual(carrying.toSorted());
      }),
    );
  });
});
