/** Values and stored states from the outside: whatever bytes come, they are a value or a DecodeError; numbers stay exact. */
import { DecodeError } from "@drover/provider/plugin/protobuf";
import {
  fromDynamicValue,
  fromRawState,
  stateFromJson,
  toDynamicValue,
} from "@drover/provider/protocol/dynamic-value";
import { machineAttributes } from "@drover/provider/resources/machine-attributes";
import { objectType, type ValueType } from "@drover/provider/schema/attribute";
import { upgrade } from "@drover/provider/schema/upgrade";
import { Decimal } from "@drover/provider/schema/value";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const machine = objectType(machineAttributes);
const none = new Uint8Array(0);
function settled(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(DecodeError);
  }
}

test("arbitrary bytes as a state, as a value in MessagePack and as one in JSON", () => {
  const nearlyJson = fc
    .tuple(fc.json({ maxDepth: 4 }), fc.nat(), fc.nat(255))
    .map(([text, at, byte]) => {
      const bytes = Buffer.from(text);
      bytes[at % bytes.length] = byte;
      return new Uint8Array(bytes);
    });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 80 }), nearlyJson), (bytes) => {
      settled(() => stateFromJson(machine, fromRawState({ json: bytes })));
      settled(() => fromDynamicValue(machine, { msgpack: bytes, json: none }));
      settled(() => fromDynamicValue(machine, { msgpack: none, json: bytes }));
    }),
    { numRuns: 1000 },
  );
});

test("any JSON object under a machine's attribute names is a machine or a DecodeError", () => {
  const names = Object.keys(machineAttributes);
  const state = fc.dictionary(
    fc.constantFrom(...names, "gone", "__proto__"),
    fc.jsonValue({ maxDepth: 3 }),
  );
  fc.assert(
    fc.property(state, (json) => {
      settled(() => {
        const stored = fromRawState({ json: Buffer.from(JSON.stringify(json)) });
        const value = stateFromJson(machine, stored) as object;
        expect(Object.keys(value)).toEqual(names); // old keys are dropped, new ones are there
        toDynamicValue(machine, value as never);
      });
    }),
  );
});

test.each<[string, string, unknown]>([
  ["a whole number", "42", 42],
  ["one beyond 2^53", "9007199254740993", 9_007_199_254_740_993n],
  [
    "a decimal that no double is",
    "0.1000000000000000000001",
    new Decimal("0.1000000000000000000001"),
  ],
  ["a short decimal", "0.5", 0.5],
  ["a number as text, as some tools store it", '"12"', 12],
])("a stored number keeps its digits: %s", (_, json, value) => {
  const of: ValueType = ["object", { n: "number" }];
  const stored = fromRawState({ json: Buffer.from(`{"n":${json}}`) });
  expect(stateFromJson(of, stored)).toEqual({ n: value });
});

test("upgrades run one after the other; a version without one passes", () => {
  const upgrades = {
    0: (state: object) => ({ ...state, a: 1 }),
    2: (state: object) => ({ ...state, c: 3 }),
  };
  expect(upgrade({}, { from: 0, to: 3 }, upgrades)).toEqual({ a: 1, c: 3 });
  expect(upgrade({}, { from: 1, to: 3 }, upgrades)).toEqual({ c: 3 });
  expect(upgrade({ x: 1 }, { from: 3, to: 3 }, upgrades)).toEqual({ x: 1 });
});
