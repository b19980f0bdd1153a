/**
 * The schema DSL: a codec says once how a type stands on the wire, and its TypeScript type is derived from it.
 * procedures.ts and events.ts are written in it. Knows XDR and libvirt's building blocks, not what is called when.
 */
import { limits, protocolFault, type XdrReader, type XdrWriter } from "#libvirt/rpc/xdr";

export interface Codec<T> {
  encode(writer: XdrWriter, value: T): void;
  decode(reader: XdrReader): T;
  /** Fewest bytes a value can take; bounds hostile counts. */
  readonly minBytes: number;
}

/** The type that a codec, or a record of codecs, carries. */
export type Of<C> = C extends Codec<infer T> ? T : never;
export type Fields = Readonly<Record<string, Codec<never> | Codec<unknown>>>;
export type StructOf<F extends Fields> = { readonly [K in keyof F]: Of<F[K]> };

export const u32: Codec<number> = {
  encode: (writer, value) => writer.u32(value),
  decode: (reader) => reader.u32(),
  minBytes: 4,
};

export const i32: Codec<number> = {
  encode: (writer, value) => writer.i32(value),
  decode: (reader) => reader.i32(),
  minBytes: 4,
};

/** An int that means yes or no. */
export const bool: Codec<boolean> = {
  encode: (writer, value) => writer.i32(value ? 1 : 0),
  decode: (reader) => reader.i32() !== 0,
  minBytes: 4,
};

/**
 * Unsigned hyper as a number. Sent values must be safe integers; received ones above 2^53 (a nanosecond counter after
 * 104 days) come rounded to the nearest double, which is what a gauge needs.
 */
export const u64: Codec<number> = {
  encode: (writer, value) => writer.u64(hyperOf(value)),
  decode: (reader) => Number(reader.u64()),
  minBytes: 8,
};

/** Signed hyper as a number; rounded like `u64`. */
export const i64: Codec<number> = {
  encode: (writer, value) => writer.i64(hyperOf(value)),
  decode: (reader) => Number(reader.i64()),
  minBytes: 8,
};

export const string: Codec<string> = text(limits.stringBytes);

export function text(maxBytes: number): Codec<string> {
  return {
    encode: (writer, value) => writer.string(value, maxBytes),
    decode: (reader) => reader.string(maxBytes),
    minBytes: 4,
  };
}

export function opaque(maxBytes: number = limits.opaqueBytes): Codec<Uint8Array> {
  return {
    encode: (writer, value) => writer.opaque(value, maxBytes),
    decode: (reader) => reader.opaque(maxBytes),
    minBytes: 4,
  };
}

/** `optional T`: undefined on our side, 0 on the wire. */
export function optional<T>(codec: Codec<T>): Codec<T | undefined> {
  return {
    encode: (writer, value) => {
      writer.u32(value === undefined ? 0 : 1);
      if (value !== undefined) codec.encode(writer, value);
    },
    decode: (reader) => {
      const present = reader.u32();
      if (present > 1) throw protocolFault(`optional marked ${present}`);
      return present === 1 ? codec.decode(reader) : undefined;
    },
    minBytes: 4,
  };
}

export function list<T>(codec: Codec<T>, maxItems: number = limits.listItems): Codec<readonly T[]> {
  return {
    encode: (writer, values) => {
      if (values.length > maxItems)
        throw protocolFault(`${values.length} items, at most ${maxItems}`);
      writer.u32(values.length);
      for (const value of values) codec.encode(writer, value);
    },
    decode: (reader) => {
      const items = reader.count(maxItems, codec.minBytes);
      return Array.from({ length: items }, () => codec.decode(reader));
    },
    minBytes: 4,
  };
}

/** Fields in wire order, which is the order they are written in. */
export function struct<F extends Fields>(fields: F): Codec<StructOf<F>> {
  const entries = Object.entries(fields) as readonly [keyof F, Codec<unknown>][];
  return {
    encode: (writer, value) => {
      for (const [name, codec] of entries) codec.encode(writer, value[name]);
    },
    decode: (reader) => {
      const value: Partial<Record<keyof F, unknown>> = {};
      for (const [name, codec] of entries) value[name] = codec.decode(reader);
      return value as StructOf<F>;
    },
    minBytes: entries.reduce((sum, [, codec]) => sum + codec.minBytes, 0),
  };
}

/** 16 raw bytes, as the usual 36 lower-case characters. */
export const uuid: Codec<string> = {
  encode: (writer, value) => {
    const hex = value.replaceAll("-", "");
    if (!/^[0-9a-f]{32}$/i.test(hex)) throw protocolFault(`"${value}" is no UUID`);
    writer.fixed(Buffer.from(hex, "hex"));
  },
  decode: (reader) => {
    const hex = reader.fixed(16).toString("hex");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  },
  minBytes: 16,
};

/** `char[n]`: libvirt sends each char as four bytes; the text ends at the first zero. */
export function charArray(length: number): Codec<string> {
  return {
    encode: (writer, value) => {
      const bytes = Buffer.from(value, "latin1");
      for (let i = 0; i < length; i += 1) writer.i32(bytes[i] ?? 0);
    },
    decode: (reader) => {
      const chars = Array.from({ length }, () => reader.i32() & 0xff);
      const end = chars.indexOf(0);
      return Buffer.from(end < 0 ? chars : chars.slice(0, end)).toString("latin1");
    },
    minBytes: length * 4,
  };
}

/** The server checks the type of a parameter, so it is always spelled out: `bandwidth` as `uint` is refused. */
export type TypedParameter =
  | { readonly field: string; readonly type: "int" | "uint" | "double"; readonly value: number }
  | { readonly field: string; readonly type: "llong" | "ullong"; readonly value: number | bigint }
  | { readonly field: string; readonly type: "boolean"; readonly value: boolean }
  | { readonly field: string; readonly type: "string"; readonly value: string };

const typeNumbers = {
  int: 1,
  uint: 2,
  llong: 3,
  ullong: 4,
  double: 5,
  boolean: 6,
  string: 7,
} as const;
const fieldName = text(limits.typedParameterNameBytes);

/** One typed parameter. Hypers are numbers where that is exact, else bigint, so that what was read can be sent back. */
export const typedParameter: Codec<TypedParameter> = {
  encode: (writer, parameter) => {
    fieldName.encode(writer, parameter.field);
    writer.i32(typeNumbers[parameter.type]);
    switch (parameter.type) {
      case "int":
        return writer.i32(parameter.value);
      case "uint":
        return writer.u32(parameter.value);
      case "llong":
        return writer.i64(hyperOf(parameter.value));
      case "ullong":
        return writer.u64(hyperOf(parameter.value));
      case "double":
        return writer.f64(parameter.value);
      case "boolean":
        return writer.i32(parameter.value ? 1 : 0);
      case "string":
        return string.encode(writer, parameter.value);
    }
  },
  decode: (reader) => {
    const field = fieldName.decode(reader);
    const type = reader.i32();
    switch (type) {
      case typeNumbers.int:
        return { field, type: "int", value: reader.i32() };
      case typeNumbers.uint:
        return { field, type: "uint", value: reader.u32() };
      case typeNumbers.llong:
        return { field, type: "llong", value: exactOf(reader.i64()) };
      case typeNumbers.ullong:
        return { field, type: "ullong", value: exactOf(reader.u64()) };
      case typeNumbers.double:
        return { field, type: "double", value: reader.f64() };
      case typeNumbers.boolean:
        return { field, type: "boolean", value: reader.i32() !== 0 };
      case typeNumbers.string:
        return { field, type: "string", value: string.decode(reader) };
      default:
        throw protocolFault(`typed parameter ${field} of unknown type ${type}`);
    }
  },
  minBytes: 12,
};

export function typedParameters(
  maxItems: number = limits.typedParameters,
): Codec<readonly TypedParameter[]> {
  return list(typedParameter, maxItems);
}

/** A typed parameter's number by name; undefined when it is absent or no number. */
export function numberIn(parameters: readonly TypedParameter[], field: string): number | undefined {
  const value = parameters.find((parameter) => parameter.field === field)?.value;
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined;
}

function hyperOf(value: number | bigint): bigint {
  if (typeof value === "bigint") return value;
  if (!Number.isSafeInteger(value)) throw protocolFault(`${value} is no exact integer`);
  return BigInt(value);
}

function exactOf(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
