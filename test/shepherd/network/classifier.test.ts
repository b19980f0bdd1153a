/**
 * Which of the kernel's classifiers tells frames apart: flower where it is, else u32. filters-flower.txt is what a stock
 * kernel (Debian's 6.1, iproute2 6.1) printed after the commands below; the lab's own kernel has u32 alone.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createChanges } from "@drover/shepherd/network/changes";
import type { Classifier, ObservedShaping } from "@drover/shepherd/network/observed";
import { diffRates } from "@drover/shepherd/network/rates";
import { readSelectors } from "@drover/shepherd/shell/read-network";
import { expect, test } from "@jest/globals";

const tap = "dvt000000000001";
const ifb = "dvi000000000001";
/** Its last two bytes are what its class is numbered by: 4096 + 1. */
const peerMac = "52:54:00:aa:00:01";
const link = { name: tap, mac: "", alias: "", master: undefined, up: true, mtu: 1450 };
const port = {
  tap,
  mac: "52:54:00:aa:00:02",
  address: "10.42.0.10",
  blocked: false,
  rates: [{ rateMbps: 10 }, { peerMac, rateMbps: 20 }],
};
const selectors = readSelectors(
  readFileSync(join(import.meta.dirname, "../../golden/network/filters-flower.txt"), "utf8"),
);
const bare: ObservedShaping = {
  htb: true,
  ingress: true,
  classes: new Map(),
  queues: new Map(),
  selectors: [],
};
/** tc's filter commands on the tap, when it has these filters already. */
function filterCommands(classifier: Classifier, there: ObservedShaping["selectors"]) {
  const changes = createChanges();
  diffRates(
    port,
    1450,
    {
      tapLink: { ...link, kind: "tun", withoutAddresses: true },
      tap: { ...bare, selectors: there },
      ifb: undefined,
      ifbLink: { ...link, name: ifb, kind: "ifb", withoutAddresses: true },
      classifier,
    },
    changes,
  );
  return changes
    .result()
    .batch.tc.filter((line) => line.startsWith("filter") && line.includes(`dev ${tap} `));
}

test("flower's answer is read, and is what these commands made", () => {
  expect(filterCommands("flower", [])).toEqual([
    "filter add dev dvt000000000001 parent d0: protocol all pref 20480 flower classid d0:5000",
    `filter add dev dvt000000000001 parent d0: protocol all pref 4097 flower src_mac ${peerMac} classid d0:1001`,
    "filter add dev dvt000000000001 parent ffff: protocol all pref 20480 flower action mirred egress redirect dev dvi000000000001",
    `filter add dev dvt000000000001 parent ffff: protocol all pref 4097 flower dst_mac ${peerMac} action mirred egress redirect dev dvi000000000001`,
  ]);
  expect(selectors).toHaveLength(4);
  expect(filterCommands("flower", selectors)).toEqual([]);
});

test("a host whose kernel has another one than before has its filters made anew", () => {
  const commands = filterCommands("u32", selectors);
  expect(commands.filter((line) => line.startsWith("filter delete"))).toEqual([
    "filter delete dev dvt000000000001 parent d0: pref 4097",
    "filter delete dev dvt000000000001 parent d0: pref 20480",
    "filter delete dev dvt000000000001 parent ffff: pref 4097",
    "filter delete dev dvt000000000001 parent ffff: pref 20480",
  ]);
  expect(commands.filter((line) => line.includes(" u32 match "))).toHaveLength(4);
});

test("a filter that compares more than we ask for is none of ours", () => {
  const foreign = readSelectors(
    `filter parent d0: protocol all pref 4097 flower chain 0 handle 0x1 classid d0:1001 \n  src_mac ${peerMac}\n  eth_type ipv4\n  not_in_hw\n`,
  );
  expect(foreign).toMatchObject([{ classifier: "flower", match: undefined }]);
});
