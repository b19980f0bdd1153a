/** The MessagePack codec against @msgpack/msgpack, and against arbitrary bytes. */
import { decodeValue, encodeValue } from "@drover/provider/plugin/msgpack";
import { DecodeError } from "@drover/provider/plugin/protobuf";
import type { ValueType } from "@drover/provider/schema/attribute";
import { Decimal, unknown, type Value } from "@drover/provider/schema/value";
import { expect, test } from "@jest/globals";
import { decode, ExtensionCodec, encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { fromValue, toValue, UnknownValue } from "../conformance/values.ts";

/** A type, and values of it. */
interface Typed {
  readonly type: ValueType;
  readonly value: Value;
}
const name = fc.stringMatching(/^[a-z_]{1,6}$/);
const leaf: fc.Arbitrary<Typed> = fc.oneof(
  fc.string({ unit: "binary" }).map((value): Typed => ({ type: "string", value })),
  fc.boolean().map((value): Typed => ({ type: "bool", value })),
  fc.maxSafeInteger().map((value): Typed => ({ type: "number", value })),
  fc
    .double({ noNaN: true, noDefaultInfinity: true })
    .filter((value) => !Object.is(value, -0))
    .map((value): Typed => ({ type: "number", value })),
);
const { typed } = fc.letrec<{ typed: Typed }>((tie) => ({
  typed: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.tuple(tie("typed"), fc.nat(20)).map(
      ([item, count]): Typed => ({
        type: ["list", item.type],
        value: Array.from({ length: count }, () => item.value),
      }),
    ),
    fc.dictionary(name, tie("typed"), { maxKeys: 20, noNullPrototype: true }).map(
      (fields): Typed => ({
        type: [
          "object",
          Object.fromEntries(Object.entries(fields).map(([key, one]) => [key, one.type])),
        ],
        value: Object.fromEntries(Object.entries(fields).map(([key, one]) => [key, one.value])),
      }),
    ),
  ),
}));

test("what is encoded is decoded again", () => {
  fc.assert(
    fc.property(typed, ({ type, value }) => {
      expect(decodeValue(type, encodeValue(type, value))).toEqual(value);
    }),
  );
});

test("an independent library reads what we write, and we read what it writes", () => {
  fc.assert(
    fc.property(typed, ({ type, value }) => {
      const theirs = decode(encodeValue(type, value), { useBigInt64: true });
      expect(normalized(theirs)).toEqual(normalized(value));
      expect(decodeValue(type, encode(value))).toEqual(value);
    }),
  );
});

function normalized(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(normalized);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, normalized(item)]));
  return value;
}

test("arbitrary bytes end in a DecodeError or in a value, never otherwise", () => {
  const type: ValueType = [
    "object",
    { a: "string", b: ["list", "number"], c: ["map", "bool"], d: "dynamic" },
  ];
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    // a valid value with one byte changed
    fc.tuple(fc.nat(), fc.nat(255)).map(([at, byte]) => {
      const valid = encodeValue(type, { a: "xyz", b: [1, 2 ** 40], c: { k: true }, d: "dyn" });
      valid[at % valid.length] = byte;
      return valid;
    }),
  );
  fc.assert(
    fc.property(bytes, (given) => {
      try {
        decodeValue(type, given);
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 2000 },
  );
});

test("whole numbers of any size and exact decimals come back as they were", () => {
  const big = fc.bigInt({ min: -(2n ** 520n), max: 2n ** 520n });
  const narrow = (value: bigint) => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
  fc.assert(
    fc.property(big, (value) => {
      expect(decodeValue("number", encodeValue("number", value))).toEqual(narrow(value));
    }),
  );
  const decimal = fc
    .tuple(fc.boolean(), fc.stringMatching(/^[1-9]\d{0,80}$/), fc.stringMatching(/^\d{0,80}[1-9]$/))
    .map(([negative, whole, fraction]) => `${negative ? "-" : ""}${whole}.${fraction}`);
  fc.assert(
    fc.property(decimal, (text) => {
      const bytes = encodeValue("number", new Decimal(text));
      expect(decode(bytes)).toBe(text); // as go-cty writes it
      expect(decodeValue("number", bytes)).toEqual(new Decimal(text));
    }),
  );
});

test("a refined unknown is an unknown, whatever is known of it, anywhere in a value", () => {
  const refinements = fc.record(
    {
      notNull: fc.constant(true as const),
      prefix: fc.string({ maxLength: 200 }),
      min: fc.tuple(fc.maxSafeInteger(), fc.boolean()),
      max: fc.tuple(fc.maxSafeInteger(), fc.boolean()),
      lengthMin: fc.nat(),
      lengthMax: fc.nat(),
    },
    { requiredKeys: [] },
  );
  const type: ValueType = ["object", { a: "string", b: ["list", "number"], c: "dynamic" }];
  fc.assert(
    fc.property(refinements, refinements, (one, two) => {
      const bytes = toValue({ a: new UnknownValue(one), b: [1, new UnknownValue(two)], c: null });
      const decoded = decodeValue(type, bytes["msgpack"] as Uint8Array);
      expect(decoded).toEqual({ a: unknown, b: [1, unknown], c: null });
      expect(decode(encodeValue(type, decoded), { extensionCodec: plain })).toEqual({
        a: "unknown",
        b: [1, "unknown"],
        c: null,
      });
    }),
  );
});
const plain = new ExtensionCodec();
plain.register({ type: 0, encode: () => null, decode: () => "unknown" });

test("every prefix of a value is cut off", () => {
  const whole = encodeValue(["list", "string"], ["a", "b".repeat(300), null]);
  for (let length = 0; length < whole.length; length++)
    expect(() => decodeValue(["list", "string"], whole.subarray(0, length))).toThrow(DecodeError);
});

test.each<[string, string, ValueType, Value]>([
  ["an unknown, as Terraform writes it", "d4 00 00", "string", unknown],
  ["an unknown of no length", "c7 00 00", "string", unknown],
  ["an unknown that is not null (refined)", "c7 03 0c 81 01 c2", "string", unknown],
  [
    "an unknown string with a prefix (refined)",
    "c7 08 0c 82 01 c2 02 a3 61 62 63",
    "string",
    unknown,
  ],
  ["0.1, which no double is, as text", "a3 30 2e 31", "number", new Decimal("0.1")],
  ["a whole number as text", "a2 34 32", "number", 42],
  ["2^53 + 1", "cf 00 20 00 00 00 00 00 01", "number", 9_007_199_254_740_993n],
  ["-2^63", "d3 80 00 00 00 00 00 00 00", "number", -9_223_372_036_854_775_808n],
  ["a dynamic value with its type", "92 c4 08 22 73 74 72 69 6e 67 22 a2 68 69", "dynamic", "hi"],
  ["null, for any type", "c0", ["list", "string"], null],
])("reads %s", (_, hex, type, value) => {
  expect(decodeValue(type, Buffer.from(hex.replaceAll(" ", ""), "hex"))).toEqual(value);
});

test.each<[string, Value, string]>([
  ["an unknown is three bytes", unknown, "d40000"],
  ["a decimal keeps its digits", new Decimal("0.1"), "a3302e31"],
  ["2^63 is a uint64", 2n ** 63n, "cf8000000000000000"],
  ["2^64 is text", 2n ** 64n, `b4${Buffer.from("18446744073709551616").toString("hex")}`],
  ["-33 needs more than a byte", -33, "d2ffffffdf"],
])("writes: %s", (_, value, hex) => {
  expect(encodeValue("number", value).toString("hex")).toBe(hex);
});

test.each<[string, ValueType, Value, RegExp]>([
  ["a string for a number", "number", "x", /value: x where a number is due/],
  ["an attribute that the type has not", ["object", { a: "string" }], { b: "x" }, /no attribute b/],
  ["a list for an object", ["object", {}], [], /object where object|where object is due/],
])("refuses to write %s, and says where", (_, type, value, words) => {
  expect(() => encodeValue(type, value)).toThrow(words);
});

test("an unknown attribute that will have a value says so, only where it is declared", () => {
  const type: ValueType = [
    "object",
    { id: "string", title: "string", of: ["object", { id: "string" }] },
  ];
  const value = { id: unknown, title: unknown, of: { id: unknown } };
  const encoded = encodeValue(type, value, new Set(["id"]));
  expect(fromValue({ msgpack: encoded })).toEqual({
    id: new UnknownValue({ notNull: true }),
    title: new UnknownValue(),
    of: { id: new UnknownValue() },
  });
  expect(decodeValue(type, encoded)).toEqual(value);
});
