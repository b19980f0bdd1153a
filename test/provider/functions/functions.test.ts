/** The provider's functions: what they give, and the words for what they refuse. */
import { functions } from "@drover/provider/catalogue";
import { ArgumentError } from "@drover/provider/schema/function";
import { Decimal, type Value } from "@drover/provider/schema/value";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

function call(name: string, ...values: readonly Value[]): Value {
  const type = functions.find((one) => one.name === name);
  if (type === undefined) throw new Error(`no function ${name}`);
  return type.call(values);
}
function refusal(name: string, ...values: readonly Value[]): [number | undefined, string] {
  try {
    call(name, ...values);
  } catch (error) {
    if (error instanceof ArgumentError) return [error.argument, error.message];
    throw error;
  }
  throw new Error("not refused");
}

test.each<[string, Value]>([
  ["2GiB", { bytes: 2_147_483_648, mib: 2048, gib: 2 }],
  ["1.5 GiB", { bytes: 1_610_612_736, mib: 1536, gib: new Decimal("1.5") }],
  ["512 mib", { bytes: 536_870_912, mib: 512, gib: new Decimal("0.5") }],
  [
    "1 GB",
    {
      bytes: 1e9,
      mib: new Decimal("953.67431640625"),
      gib: new Decimal("0.931322574615478515625"),
    },
  ],
  ["0B", { bytes: 0, mib: 0, gib: 0 }],
])("parse_size(%s)", (text, value) => {
  expect(call("parse_size", text)).toEqual(value);
});

test.each<[string, Value]>([
  ["1Gbit/s", { bps: 1e9, mbps: 1000 }],
  ["2.5 Gbps", { bps: 2.5e9, mbps: 2500 }],
  ["25MB/s", { bps: 2e8, mbps: 200 }],
  ["1500bit/s", { bps: 1500, mbps: new Decimal("0.0015") }],
])("parse_rate(%s)", (text, value) => {
  expect(call("parse_rate", text)).toEqual(value);
});

test.each<[string, string, RegExp]>([
  ["parse_size", "lots", /"lots" is not a size: write a number and a unit, such as 2GiB/],
  ["parse_size", "2", /write a number and a unit/],
  ["parse_size", "2 bananas", /its unit must be one of B, kB, KiB/],
  ["parse_size", "-2GiB", /write a number and a unit/],
  ["parse_size", "0.1B", /a fraction of the smallest unit/],
  ["parse_size", "99999TiB", /too large to be meant/],
  ["parse_rate", "10mb", /its unit must be one of bit\/s, bps, B\/s/],
  ["parse_rate", "5000Tbit/s", /too large/],
])("%s refuses %s", (name, text, words) => {
  const [argument, message] = refusal(name, text);
  expect(argument).toBe(0);
  expect(message).toMatch(words);
});

test("sizes are exact: every unit of a whole number of bytes multiplies back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 52 }), (bytes) => {
      const size = call("parse_size", `${bytes}B`) as { bytes: number; mib: number | Decimal };
      expect(size.bytes).toBe(bytes);
      const mib = size.mib instanceof Decimal ? Number(size.mib.text) : size.mib;
      expect(mib * 2 ** 20).toBe(bytes); // a division by a power of two loses nothing
    }),
  );
});

test("ring, mesh and star lay out links", () => {
  expect(call("ring", ["a", "b", "c"])).toEqual([
    ["a", "b"],
    ["b", "c"],
    ["c", "a"],
  ]);
  expect(call("ring", ["a", "b"])).toEqual([["a", "b"]]); // two machines have one link
  expect(call("mesh", ["a", "b", "c"])).toEqual([
    ["a", "b"],
    ["a", "c"],
    ["b", "c"],
  ]);
  expect(call("star", "x", ["a", "b"])).toEqual([
    ["x", "a"],
    ["x", "b"],
  ]);
});

const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,4}$/), { minLength: 2, maxLength: 12 });
test("links have two different ends, none stands there twice, and each machine has as many as its layout says", () => {
  const degrees = (pairs: readonly (readonly string[])[]) => {
    const keys = pairs.map((pair) => pair.toSorted().join());
    expect(new Set(keys).size).toBe(pairs.length);
    const ends = pairs.flat();
    for (const [left, right] of pairs) expect(left).not.toBe(right);
    return [...new Set(ends)].map((name) => ends.filter((end) => end === name).length);
  };
  fc.assert(
    fc.property(names, (given) => {
      const n = given.length;
      const ring = degrees(call("ring", given) as string[][]);
      expect(ring).toEqual(given.map(() => (n === 2 ? 1 : 2)));
      expect(degrees(call("mesh", given) as string[][])).toEqual(given.map(() => n - 1));
      const star = degrees(call("star", "CENTER", given) as string[][]);
      expect(star.toSorted((a, b) => b - a)).toEqual([n, ...given.map(() => 1)]);
    }),
  );
});

test.each<[string, Value[], number, RegExp]>([
  ["ring", [["a"]], 0, /1 given; name at least 2 machines/],
  ["ring", [["a", "b", "a"]], 0, /"a" stands there twice/],
  ["ring", [["a", null]], 0, /A name is null/],
  ["mesh", [[]], 0, /0 given/],
  ["star", ["a", ["a", "b"]], 1, /"a" is the center/],
  ["star", ["x", []], 1, /name at least one machine/],
])("%s refuses %j", (name, values, argument, words) => {
  const [at, message] = refusal(name, ...values);
  expect(at).toBe(argument);
  expect(message).toMatch(words);
});

test.each<[string, number, string]>([
  ["10.42.0.0/24", 1, "10.42.0.1"],
  ["10.42.0.0/24", -1, "10.42.0.254"],
  ["10.0.0.0/8", 65_536, "10.1.0.0"],
  ["192.0.2.8/29", 6, "192.0.2.14"],
  ["192.0.2.8/29", -6, "192.0.2.9"],
])("cidr_address(%s, %d)", (cidr, number, address) => {
  expect(call("cidr_address", cidr, number)).toBe(address);
});

test.each<[string, Value, number, RegExp]>([
  ["10.42.0.1/24", 1, 0, /write 10\.42\.0\.0\/24/],
  ["10.42.0.0/24", 0, 1, /from 1 to 254/],
  ["10.42.0.0/24", 255, 1, /has 254 addresses for machines/],
  ["10.42.0.0/24", new Decimal("1.5"), 1, /whole number/],
])("cidr_address refuses %s, %j", (cidr, number, argument, words) => {
  const [at, message] = refusal("cidr_address", cidr, number);
  expect(at).toBe(argument);
  expect(message).toMatch(words);
});
