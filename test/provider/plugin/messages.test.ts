/**
 * Every message of provider/protocol against the protocol text of the conformance client, by protobufjs: random messages
 * pass through both and come back the same, so that no field number or type is wrong.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decode, encode, type Field, type Message } from "@drover/provider/plugin/protobuf";
import { calls } from "@drover/provider/protocol/service";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import protobuf from "protobufjs";

const protocol = protobuf.parse(
  readFileSync(join(import.meta.dirname, "../conformance/tfplugin6.proto"), "utf8"),
  { keepCase: true },
).root;

/** Values that survive both libraries; messages hold themselves, so depth is bounded. */
function values(of: Message, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const fields = Object.entries(of.fields).filter(([, one]) => depth > 0 || one.kind !== "message");
  return fc.record(
    Object.fromEntries(fields.map(([name, one]) => [name, fieldValue(name, one, depth)])),
    { requiredKeys: [] },
  );
}

function fieldValue(name: string, one: Field, depth: number): fc.Arbitrary<unknown> {
  const item = itemValue(name, one, depth);
  if (one.label === "repeated") return fc.array(item, { minLength: 1, maxLength: 2 });
  if (one.label === "map")
    return fc.dictionary(fc.stringMatching(/^[a-z]{1,3}$/), item, { minKeys: 1, maxKeys: 2 });
  return item;
}

function itemValue(name: string, one: Field, depth: number): fc.Arbitrary<unknown> {
  switch (one.kind) {
    case "string":
      return fc.string({ minLength: 1, maxLength: 5 });
    case "bytes":
      return fc.uint8Array({ minLength: 1, maxLength: 5 }).map((bytes) => Buffer.from(bytes));
    case "bool":
      return fc.constant(true);
    case "integer": // enums and int32 take small numbers only
      return name === "severity" ? fc.integer({ min: 1, max: 2 }) : fc.integer({ min: 1, max: 99 });
    default:
      return one.message === undefined
        ? fc.constant({})
        : values(one.message(), depth - 1).map((value) => onlyOne(one.message?.().name, value));
  }
}

/** Of a oneof, one: a decoder keeps the last alone. */
function onlyOne(name: string | undefined, value: Record<string, unknown>) {
  if (name !== "AttributePath.Step") return value;
  return Object.fromEntries(Object.entries(value).slice(0, 1));
}

const messages = Object.entries(calls).flatMap(([name, call]) => [
  [`${name}.Request`, call.request as Message] as const,
  ["stream" in call ? `${name}.Event` : `${name}.Response`, call.response as Message] as const,
]);

test.each(messages)("%s has the field numbers and types of the protocol", (name, ours) => {
  const theirs = protocol.lookupType(`tfplugin6.${name}`);
  // the protocol text is whole: every field of ours by name and number, in nested messages too
  for (const [field, { number }] of Object.entries(ours.fields))
    expect([name, field, theirs.fields[field]?.id]).toEqual([name, field, number]);
  fc.assert(
    fc.property(
      values(ours, 3).map((value) => (name === "InvokeAction.Event" ? firstOf(value) : value)),
      (value) => {
        const bytes = encode(ours, value as never);
        const seen = theirs.toObject(theirs.decode(bytes), { longs: Number });
        expect(comparable(seen)).toEqual(comparable(value));
        const back = decode(ours, theirs.encode(theirs.fromObject(seen)).finish());
        expect(Buffer.compare(encode(ours, back as never), bytes)).toBe(0);
      },
    ),
    { numRuns: 25 },
  );
});

function firstOf(value: Record<string, unknown>) {
  return Object.fromEntries(Object.entries(value).slice(0, 1));
}

/** Without what is empty, which proto3 does not tell from absent. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, comparable(item)]));
}
