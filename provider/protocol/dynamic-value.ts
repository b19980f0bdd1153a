/** The noun *dynamic value*: any Terraform value on the wire, as MessagePack or JSON, and stored state. */
import { decodeValue, encodeValue, readDecimal } from "#plugin/msgpack";
import { type Decoded, DecodeError, type Encodable, field, message } from "#plugin/protobuf";
import type { ValueType } from "#schema/attribute";
import type { JsonObject } from "#schema/upgrade";
import type { ObjectValue, Value } from "#schema/value";
import { Decimal } from "#schema/value";

export const dynamicValue = message("DynamicValue", {
  msgpack: field.bytes(1),
  json: field.bytes(2),
});
export type DynamicValue = Decoded<typeof dynamicValue>;

/** State as it stands in a state file, of whichever schema version. */
export const rawState = message("RawState", { json: field.bytes(1) });

/** @throws DecodeError when it is no value of this type. An absent one is null. */
export function fromDynamicValue(type: ValueType, value: DynamicValue | undefined): Value {
  if (value === undefined) return null;
  if (value.msgpack.length > 0) return decodeValue(type, value.msgpack);
  if (value.json.length > 0) return fromJson(type, parseJson(value.json), "value");
  return null;
}

/** `neverNull`: attributes that have a value in the end, also where they are unknown. */
export function toDynamicValue(
  type: ValueType,
  value: Value,
  neverNull?: ReadonlySet<string>,
): Encodable<DynamicValue> {
  return { msgpack: encodeValue(type, value, neverNull) };
}

/** What stands in a state file. @throws DecodeError when it is no JSON object. */
export function fromRawState(stored: { readonly json: Uint8Array } | undefined): JsonObject {
  if (stored === undefined || stored.json.length === 0)
    throw new DecodeError("a state without JSON, as tools before Terraform 0.12 wrote it");
  const json = parseJson(stored.json);
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new DecodeError("a stored state that is no JSON object");
  return json as JsonObject;
}

/**
 * A stored state as a value of the type of today: keys that it no longer has are dropped, new ones are null.
 * @throws DecodeError when a kept attribute is of another type.
 */
export function stateFromJson(type: ValueType, state: JsonObject): Value {
  return fromJson(type, state, "state");
}

function parseJson(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString();
  try {
    // Numbers keep their digits: JSON.parse hands the source text to the reviver.
    return (JSON.parse as JsonParse)(text, (_, value, context) =>
      typeof value === "number" && !numberIsExact(value, context?.source)
        ? new Decimal(context?.source ?? String(value))
        : value,
    );
  } catch (cause) {
    throw new DecodeError("text that is not JSON", { cause });
  }
}
type JsonParse = (
  text: string,
  reviver: (key: string, value: unknown, context?: { source?: string }) => unknown,
) => unknown;

function numberIsExact(value: number, source: string | undefined): boolean {
  return source === undefined || Number.isSafeInteger(value) || String(value) === source;
}

function fromJson(type: ValueType, json: unknown, where: string): Value {
  if (json === null || json === undefined) return null;
  switch (type) {
    case "string":
      if (typeof json === "string") return json;
      break;
    case "bool":
      if (typeof json === "boolean") return json;
      break;
    case "number":
      if (typeof json === "number") return json;
      if (json instanceof Decimal) return readDecimal(json.text, where);
      if (typeof json === "string") return readDecimal(json, where);
      break;
    case "dynamic":
      break;
    default:
      return collectionFromJson(type, json, where);
  }
  throw new DecodeError(`${where}: ${typeof json} where ${type} is due`);
}

function collectionFromJson(type: Exclude<ValueType, string>, json: unknown, where: string): Value {
  const [kind, inner] = type;
  if (kind === "list" || kind === "set") {
    if (!Array.isArray(json))
      throw new DecodeError(`${where}: ${typeof json} where ${kind} is due`);
    return json.map((item, i) => fromJson(inner, item, `${where}[${i}]`));
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new DecodeError(`${where}: ${typeof json} where ${kind} is due`);
  const entries: [string, unknown][] = Object.entries(json);
  if (kind === "map")
    return Object.fromEntries(
      entries.map(([name, item]) => [name, fromJson(inner, item, `${where}.${name}`)]),
    );
  const given = new Map(entries);
  const object: ObjectValue = Object.fromEntries(
    Object.entries(inner).map(([name, of]) => [
      name,
      fromJson(of, given.get(name), `${where}.${name}`),
    ]),
  );
  return object;
}
