import { layOut } from "@drover/shepherd/lab/layout";
import { completePaths, describeWan, parseWan, wanQdiscs } from "@drover/shepherd/lab/wan";
import { expect, test } from "@jest/globals";

const layout = layOut({ name: "lab" });

test.each([
  ["north:south=50ms,200mbit,1%", "north:south=50ms,200mbit,1%"],
  ["south:north=1gbit", "north:south=0ms,1000mbit"],
  ["north:south=0.5%", "north:south=0ms,0.5%"],
  ["north:south", "north:south=0ms"],
  ["north:south=cut,20ms", "north:south=cut,20ms"],
])("%s is read, and written as %s", (text, written) => {
  expect(describeWan(parseWan(text))).toBe(written);
});

test.each([
  ["north=50ms", "it is not SITE:SITE=50ms,200mbit,1%"],
  ["north:north=50ms", "north needs no way to itself"],
  ["north:south=200ms", "200ms round trip is not within 0 to 150"],
  ["north:south=5mbit", "5mbit in Mbit/s is not within 10 to 1000"],
  ["north:south=99%", "99% loss is not within 0 to 50"],
  ["north:south=fast", "fast is none of 50ms, 200mbit, 1%, cut"],
])("%s is refused: %s", (text, problem) => {
  expect(() => parseWan(text)).toThrow(
    expect.objectContaining({ code: "lab.wan_invalid", details: { text, problem } }),
  );
});

test("a site there is not, and a pair named twice, are refused", () => {
  const refused = (...texts: string[]) =>
    expect(() => completePaths(layout, texts.map(parseWan))).toThrow(
      expect.objectContaining({ code: "lab.wan_invalid" }),
    );
  refused("north:west=5ms");
  refused("north:south=5ms", "south:north=9ms");
});

test("pairs that nobody named are there, unshaped", () => {
  expect(completePaths(layout, []).map(describeWan)).toEqual(["north:south=0ms"]);
});

test("what leaves towards a site is shaped by where it came from; a change makes nothing anew", () => {
  const [north] = layout.sites;
  if (north === undefined) throw new Error("no site");
  const paths = [parseWan("north:south=50ms,200mbit,1%")];
  const request = { device: "eth0", site: north, layout, paths };
  expect(wanQdiscs({ ...request, first: true })).toEqual([
    "qdisc replace dev eth0 root handle 1: htb default 0",
    "class add dev eth0 parent 1: classid 1:11 htb rate 200mbit ceil 200mbit burst 65536 cburst 65536 quantum 60000",
    // 25 ms under way and 100 ms of buffer at 200 Mbit/s are 2,084 frames
    "qdisc add dev eth0 parent 1:11 handle 11: netem limit 2084 delay 25000us loss 1%",
    "filter add dev eth0 parent 1: protocol ip pref 17 u32 match ip src 10.219.2.0/24 flowid 1:11",
  ]);
  const cut = [parseWan("north:south=50ms,200mbit,cut")];
  expect(wanQdiscs({ ...request, paths: cut, first: false })).toEqual([
    "class change dev eth0 parent 1: classid 1:11 htb rate 200mbit ceil 200mbit burst 65536 cburst 65536 quantum 60000",
    "qdisc change dev eth0 parent 1:11 handle 11: netem limit 2084 delay 25000us loss 100%",
  ]);
});
