import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isFault } from "@drover/shepherd/model/fault";
import { derive } from "@drover/shepherd/network/derive";
import { diffNetwork } from "@drover/shepherd/network/diff";
import { shapedBits } from "@drover/shepherd/network/rates";
import type { HostNetworkConfig } from "@drover/shepherd/ports/host-network";
import { readFilters, readNetwork } from "@drover/shepherd/shell/read-network";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { linkRecord, networkLinkRecord, networkRecord } from "./records.ts";
import { rank, ring } from "./ring.ts";

const goldenPath = (name: string) => join(import.meta.dirname, "../../golden/network", name);
const golden = (name: string) => readFileSync(goldenPath(name), "utf8");
/** The text equals the golden file; `make golden` rewrites it. */
function expectGolden(name: string, text: string): void {
  if (process.env["GOLDEN"] === "write") writeFileSync(goldenPath(name), text);
  else expect(text).toBe(golden(name));
}

/*
 * answer*.txt is what a real host printed (Debian 12: iproute2 6.1, nftables 1.0.6, Linux 6.18): before the first apply,
 * after it with the machine's tap there, and after the tap went. answer-probe.json is how it prints our rules.
 */
const wish = derive("north-1", ring);
const empty = readNetwork(golden("answer-empty.txt"));
const equal = readNetwork(golden("answer.txt"));
const withoutTap = readNetwork(golden("answer-without-tap.txt"));
const rules = {
  filters: readFilters(golden("answer-probe.json"))?.rules ?? "",
  underlay: "", // no host of this world has tunnels, or a gateway
  exits: "",
};
const nothing: HostNetworkConfig = { hostId: "north-1", bridges: [] };

function show(from: typeof empty, to: HostNetworkConfig): string {
  const { differences, batch } = diffNetwork(to, from, rules);
  const lines = differences.map((each) => `${each.problem}: ${each.object}: ${each.detail}`);
  const commands = (["start", "nft", "ip", "bridge", "tc", "end"] as const).flatMap((program) =>
    batch[program].map((line) => `${program} ${line}`),
  );
  return `${[...lines, "", ...commands].join("\n")}\n`;
}
const differencesOf = (from: typeof empty, to: HostNetworkConfig) =>
  diffNetwork(to, from, rules).differences;

describe("what a real host answers", () => {
  test("after an apply is equal to the wish, with the tap and without it", () => {
    expect(differencesOf(equal, wish)).toEqual([]);
    expect(differencesOf(withoutTap, wish)).toEqual([]);
  });

  test("before the first apply lacks everything", () => {
    expectGolden("first-apply.txt", show(empty, wish));
  });

  test("when the tap has come lacks the port", () => {
    expectGolden("tap-came.txt", show({ ...equal, shaping: new Map(), forwarding: [] }, wish));
  });

  test("at the destination of a move, at the flip", () => {
    const moved = derive("north-1", {
      ...ring,
      machines: [rank(0, "north-1"), rank(1, "north-1"), rank(2, "south-1")],
    });
    expectGolden("flip.txt", show(equal, moved));
  });

  test("when a link's rate changes, is changed in place", () => {
    const links = [linkRecord("ring", ["rank-0", "rank-1"], 80), ...ring.links.slice(1)];
    expectGolden("rate-change.txt", show(equal, derive("north-1", { ...ring, links })));
  });

  test("when a link with the network comes, keeps its peers' classes and asks its filter last", () => {
    const links = [
      ...ring.links,
      networkLinkRecord("ring", { machine: "rank-0", network: "lan" }, 30),
    ];
    expectGolden("network-link-comes.txt", show(equal, derive("north-1", { ...ring, links })));
  });

  test("when a link goes, keeps the other's class", () => {
    expectGolden(
      "link-goes.txt",
      show(equal, derive("north-1", { ...ring, links: ring.links.slice(1) })),
    );
  });

  test("when all links go, is not shaped at all", () => {
    expectGolden("links-go.txt", show(equal, derive("north-1", { ...ring, links: [] })));
  });

  test("when nothing is wished any more, is emptied, taps excepted", () => {
    expectGolden("removal.txt", show(equal, nothing));
    expect(show(equal, nothing)).not.toContain("link delete dev dvt");
    expect(differencesOf(empty, nothing)).toEqual([]);
  });

  test("when its VNI changes, has its VXLAN device made anew with all entries", () => {
    const networks = [networkRecord("ring", "lan", 0xd00009)];
    expectGolden("vni-change.txt", show(equal, derive("north-1", { ...ring, networks })));
  });
});

test("what is cut short or unreadable is an error, not an empty host", () => {
  const answer = golden("answer.txt");
  expect(() => readNetwork(answer.slice(0, -6))).toThrow("cut short");
  expect(() => readNetwork(answer.replace("[{", "[["))).toThrow();
  // tc stopped before its last device.
  expect(() => readNetwork(answer.replace(/qdisc htb d0: root refcnt 2[^@]*/, ""))).toThrow(
    "tc told of",
  );
});

test("devices that only look like ours are left alone", () => {
  const links = new Map(empty.links);
  for (const name of ["dvorak0", "dvb123", "dvbZZZZZZZZZZZZ", "dvi00000000000g"]) {
    links.set(name, {
      name,
      kind: "bridge",
      up: true,
      mtu: 1500,
      mac: "02:00:00:00:00:01",
      alias: "",
      master: undefined,
      withoutAddresses: false,
      bridge: { multicastSnooping: false, spanningTree: false },
    });
  }
  // Our shape, but of another kind than its letter says.
  links.set("dvb000000000000", {
    ...links.get("dvorak0"),
    name: "dvb000000000000",
    kind: "dummy",
  } as never);
  expect(differencesOf({ ...empty, links }, nothing)).toEqual([]);
});

test("a promised rate leaves room for headers and for the acknowledgements of the other direction", () => {
  expect(shapedBits(200, 1450)).toBe(214_163_000);
  for (const rateMbps of [1, 10, 1_000, 100_000]) {
    const ratio = shapedBits(rateMbps, 1450) / (rateMbps * 1e6);
    expect(ratio).toBeGreaterThan(1.05);
    expect(ratio).toBeLessThan(1.08);
  }
});

describe("whatever a config holds", () => {
  const texts = ["networkId", "bridge", "vxlan", "localAddress"] as const;
  const evil = fc.oneof(
    fc.string({ unit: "binary", maxLength: 30 }),
    fc.constantFrom(
      'x"\nlink delete dev eth0',
      "dvb000000000000\n",
      "10.0.0.1; reboot",
      "DROVER_END",
      "$(id)",
      "10.0.0.1/24",
    ),
  );

  test("no command holds anything but one line of plain characters", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...texts, "peer", "tap", "mac", "address", "peerMac"),
        evil,
        (where, text) => {
          const [bridge] = wish.bridges;
          const [port] = bridge?.ports ?? [];
          if (bridge === undefined || port === undefined) throw new Error("no port");
          const rates = where === "peerMac" ? [{ peerMac: text, rateMbps: 5 }] : port.rates;
          const changedPort =
            where === "tap" || where === "mac" || where === "address"
              ? { ...port, [where]: text }
              : { ...port, rates };
          const changed = {
            ...bridge,
            ports: [changedPort],
            peers: where === "peer" ? [text] : bridge.peers,
            ...(texts.some((name) => name === where) ? { [where]: text } : {}),
          };
          try {
            const { batch } = diffNetwork({ ...wish, bridges: [changed] }, empty, rules);
            for (const line of [...batch.ip, ...batch.bridge, ...batch.tc]) {
              expect(line).toMatch(/^[A-Za-z0-9 .:_"/-]+$/);
            }
          } catch (error) {
            if (!isFault(error, "network.config_invalid")) throw error;
          }
        },
      ),
    );
  });

  test.each([
    ["a VNI of 0", { vni: 0 }],
    ["a VNI beyond 24 bits", { vni: 0x1_00_00_00 }],
    ["an MTU below what IPv4 needs", { mtu: 500 }],
    ["a rate of nothing", { rateMbps: 0 }],
    ["half a megabit", { rateMbps: 0.5 }],
  ])("%s is refused", (_, change) => {
    const [bridge] = wish.bridges;
    if (bridge === undefined) throw new Error("no bridge");
    const ports = bridge.ports.map((port) => ({
      ...port,
      rates: port.rates.map((rate) => ({ ...rate, ...change })),
    }));
    expect(() =>
      diffNetwork({ ...wish, bridges: [{ ...bridge, ...change, ports }] }, empty, rules),
    ).toThrow("was refused before it reached a command");
  });
});
