/** The protobuf codec against protobufjs, and against arbitrary bytes. */
import { DecodeError, decode, encode, field, message } from "@drover/provider/plugin/protobuf";
import { calls } from "@drover/provider/protocol/service";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import protobuf from "protobufjs";

const inner = message("Inner", { name: field.string(1), size: field.integer(2) });
const everything = message("Everything", {
  text: field.string(1),
  data: field.bytes(2),
  flag: field.bool(3),
  count: field.integer(4),
  maybe: field.optionalInteger(5),
  one: field.one(6, () => inner),
  many: field.many(7, () => inner),
  words: field.strings(8),
  byName: field.map(9, () => inner),
  far: field.string(2000),
});
const theirs = protobuf
  .parse(
    `syntax = "proto3";
    message Inner { string name = 1; int64 size = 2; }
    message Everything { string text = 1; bytes data = 2; bool flag = 3; int64 count = 4; optional int64 maybe = 5;
      Inner one = 6; repeated Inner many = 7; repeated string words = 8; map<string, Inner> byName = 9; string far = 2000; }`,
    { keepCase: true },
  )
  .root.lookupType("Everything");

const text = fc.string({ unit: "binary" });
const innerValue = fc.record({ name: text, size: fc.maxSafeInteger() });
const value = fc.record({
  text,
  data: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  flag: fc.boolean(),
  count: fc.maxSafeInteger(),
  maybe: fc.option(fc.maxSafeInteger(), { nil: undefined }),
  one: fc.option(innerValue, { nil: undefined }),
  many: fc.array(innerValue, { maxLength: 4 }),
  words: fc.array(text, { maxLength: 4 }),
  byName: fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), innerValue, { maxKeys: 3 }),
  far: text,
});

test("what is encoded is decoded again, also by an independent library", () => {
  fc.assert(
    fc.property(value, (given) => {
      const ours = encode(everything, given);
      expect(comparable(decode(everything, ours))).toEqual(comparable(given));
      const read = theirs.toObject(theirs.decode(ours), { defaults: false, longs: Number });
      expect(
        comparable(decode(everything, theirs.encode(theirs.fromObject(read)).finish())),
      ).toEqual(comparable(given));
    }),
  );
});

function comparable(given: unknown): unknown {
  if (given instanceof Uint8Array) return Buffer.from(given).toString("hex");
  if (Array.isArray(given)) return given.map(comparable);
  if (typeof given !== "object" || given === null) return given ?? null;
  return Object.fromEntries(Object.entries(given).map(([key, item]) => [key, comparable(item)]));
}

test("arbitrary bytes end in a DecodeError or in a message, for every request of the protocol", () => {
  const requests = Object.values(calls).map((call) => call.request);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(requests.length - 1), (bytes, index) => {
      try {
        decode(requests[index] ?? inner, bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 3000 },
  );
});

test.each([
  ["a number that never ends", "20ffffffffffffffffffffff", /more than 10 bytes/],
  ["a length beyond the end", "0a05616263", /cut off/],
  ["field number 0", "0201", /field number 0/],
  ["a wire type of another kind", "0d01000000", /wire type 5 instead of 2/],
  ["text that is not UTF-8", "0a02fffe", /not UTF-8/],
  ["a group, which proto3 has not", "f301", /wire type 3/],
])("refuses %s", (_, hex, words) => {
  expect(() => decode(everything, Buffer.from(hex, "hex"))).toThrow(words);
});

test("skips fields that it does not know", () => {
  // field 99 as varint, fixed64, bytes and fixed32; then text "a"
  const unknownFields = "9806 01 9906 0000000000000000 9a06 02 0000 9d06 00000000 0a 01 61";
  expect(decode(everything, Buffer.from(unknownFields.replaceAll(" ", ""), "hex")).text).toBe("a");
});
