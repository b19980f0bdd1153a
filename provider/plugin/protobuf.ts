/**
 * Protocol buffers (proto3 binary) from tables: a message is a table of fields, its TypeScript type follows from it.
 * Pure. Knows no message of its own; `protocol/` holds those. Source: protobuf.dev/programming-guides/encoding.
 */

/** The bytes are no such message. Thrown for any malformed input, nothing else is. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
}

type Scalar = "string" | "bytes" | "bool" | "integer";
/** Decoded: absent message = undefined, absent scalar = its zero, absent repeated = empty. */
export interface Field<Value = unknown> {
  readonly number: number;
  readonly kind: Scalar | "message";
  readonly label: "single" | "optional" | "repeated" | "map";
  /** Called late, since messages may hold themselves. */
  readonly message?: () => Message;
  /** Never present; carries the type. */
  readonly value?: Value;
}
export type Fields = Readonly<Record<string, Field>>;
export interface Message<F extends Fields = Fields> {
  readonly name: string;
  readonly fields: F;
}
type ValueOf<F> = F extends Field<infer Value> ? Value : never;
export type Decoded<M> =
  M extends Message<infer F> ? { readonly [K in keyof F]: ValueOf<F[K]> } : never;
/** What may be given to encode: everything absent is left out. */
export type Encodable<T> = T extends Uint8Array
  ? T
  : T extends readonly (infer Item)[]
    ? readonly Encodable<Item>[]
    : T extends object
      ? { readonly [K in keyof T]?: Encodable<T[K]> | undefined }
      : T;

/** Messages nested deeper than this are refused: schemas and paths need a dozen. */
const maxDepth = 100;

export function message<const F extends Fields>(name: string, fields: F): Message<F> {
  return { name, fields };
}
export const field = {
  string: (number: number): Field<string> => ({ number, kind: "string", label: "single" }),
  bytes: (number: number): Field<Uint8Array> => ({ number, kind: "bytes", label: "single" }),
  bool: (number: number): Field<boolean> => ({ number, kind: "bool", label: "single" }),
  /** int32, int64 and enums; beyond 2^53 as bigint on the wire, refused here. */
  integer: (number: number): Field<number> => ({ number, kind: "integer", label: "single" }),
  optionalInteger: (number: number): Field<number | undefined> => ({
    number,
    kind: "integer",
    label: "optional",
  }),
  optionalString: (number: number): Field<string | undefined> => ({
    number,
    kind: "string",
    label: "optional",
  }),
  optionalBytes: (number: number): Field<Uint8Array | undefined> => ({
    number,
    kind: "bytes",
    label: "optional",
  }),
  one: <F extends Fields>(
    number: number,
    of: () => Message<F>,
  ): Field<Decoded<Message<F>> | undefined> => ({
    number,
    kind: "message",
    label: "optional",
    message: of,
  }),
  many: <F extends Fields>(
    number: number,
    of: () => Message<F>,
  ): Field<readonly Decoded<Message<F>>[]> => ({
    number,
    kind: "message",
    label: "repeated",
    message: of,
  }),
  strings: (number: number): Field<readonly string[]> => ({
    number,
    kind: "string",
    label: "repeated",
  }),
  /** map<string, message> */
  map: <F extends Fields>(
    number: number,
    of: () => Message<F>,
  ): Field<Readonly<Record<string, Decoded<Message<F>>>>> => ({
    number,
    kind: "message",
    label: "map",
    message: of,
  }),
} as const;

const wireTypes = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

export function encode<F extends Fields>(
  of: Message<F>,
  value: Encodable<Decoded<Message<F>>>,
): Buffer {
  return Buffer.concat(encodeFields(of, value as Readonly<Record<string, unknown>>));
}

function encodeFields(of: Message, value: Readonly<Record<string, unknown>>): Buffer[] {
  const out: Buffer[] = [];
  for (const [name, one] of Object.entries(of.fields)) {
    const given = value[name];
    if (given === undefined || given === null) continue;
    if (one.label === "repeated") {
      for (const item of given as readonly unknown[]) encodeOne(out, one, item);
    } else if (one.label === "map") {
      for (const [key, item] of Object.entries(given)) {
        const entry: Buffer[] = [];
        encodeOne(entry, { number: 1, kind: "string", label: "optional" }, key);
        encodeOne(entry, { ...one, number: 2, label: "optional" }, item);
        encodeOne(
          out,
          { number: one.number, kind: "bytes", label: "optional" },
          Buffer.concat(entry),
        );
      }
    } else encodeOne(out, one, given);
  }
  return out;
}

function encodeOne(out: Buffer[], one: Field, value: unknown): void {
  const isZero =
    value === "" || value === false || value === 0 || (value as Uint8Array).length === 0;
  if (one.label === "single" && isZero) return; // proto3 leaves zeros out, except in lists
  switch (one.kind) {
    case "bool":
      out.push(tag(one.number, wireTypes.varint), varint(value === true ? 1n : 0n));
      break;
    case "integer":
      out.push(
        tag(one.number, wireTypes.varint),
        varint(BigInt.asUintN(64, BigInt(value as number))),
      );
      break;
    default: {
      const bytes =
        one.kind === "message"
          ? Buffer.concat(encodeFields(messageOf(one), value as Readonly<Record<string, unknown>>))
          : Buffer.from(value as string);
      out.push(tag(one.number, wireTypes.bytes), varint(BigInt(bytes.length)), bytes);
    }
  }
}

function messageOf(one: Field): Message {
  if (one.message === undefined) throw new TypeError("a message field without its message");
  return one.message();
}

function tag(number: number, wireType: number): Buffer {
  return varint(BigInt(number * 8 + wireType));
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** @throws DecodeError for anything that is not such a message. Unknown fields are skipped. */
export function decode<F extends Fields>(of: Message<F>, bytes: Uint8Array): Decoded<Message<F>> {
  return decodeFields(of, new Reader(bytes), 0) as Decoded<Message<F>>;
}

function decodeFields(of: Message, reader: Reader, depth: number): Record<string, unknown> {
  if (depth > maxDepth) throw new DecodeError(`${of.name}: nested deeper than ${maxDepth}`);
  const value = zeroOf(of);
  const byNumber = new Map(Object.entries(of.fields).map((entry) => [entry[1].number, entry]));
  while (!reader.done) {
    const key = reader.varint();
    const number = Number(key >> 3n);
    const wireType = Number(key & 7n);
    const entry = byNumber.get(number);
    if (number === 0) throw new DecodeError(`${of.name}: field number 0`);
    if (entry === undefined) {
      reader.skip(wireType);
      continue;
    }
    const [name, one] = entry;
    decodeInto(value, { of, name, one, wireType }, reader, depth);
  }
  return value;
}

function decodeInto(
  value: Record<string, unknown>,
  at: { of: Message; name: string; one: Field; wireType: number },
  reader: Reader,
  depth: number,
): void {
  const { of, name, one, wireType } = at;
  const expected =
    one.kind === "bool" || one.kind === "integer" ? wireTypes.varint : wireTypes.bytes;
  if (wireType !== expected)
    throw new DecodeError(`${of.name}.${name}: wire type ${wireType} instead of ${expected}`);
  const read = (): unknown => {
    switch (one.kind) {
      case "bool":
        return reader.varint() !== 0n;
      case "integer": {
        const number = BigInt.asIntN(64, reader.varint());
        if (!Number.isSafeInteger(Number(number)))
          throw new DecodeError(`${of.name}.${name}: ${number} is beyond 2^53`);
        return Number(number);
      }
      case "string":
        return reader.text();
      case "bytes":
        return reader.bytes();
      default:
        return decodeFields(messageOf(one), new Reader(reader.bytes()), depth + 1);
    }
  };
  if (one.label === "repeated") (value[name] as unknown[]).push(read());
  else if (one.label === "map") {
    const reading = new Reader(reader.bytes());
    const entry = decodeFields(mapEntry(messageOf(one)), reading, depth + 1);
    const map = value[name] as Record<string, unknown>;
    map[String(entry["key"])] = entry["item"] ?? zeroOf(messageOf(one));
  } else value[name] = read();
}

function mapEntry(of: Message): Message {
  return message(`${of.name} entry`, { key: field.string(1), item: field.one(2, () => of) });
}

function zeroOf(of: Message): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(of.fields).map(([name, one]) => [name, zeroOfField(one)]),
  );
}

function zeroOfField(one: Field): unknown {
  switch (one.label) {
    case "optional":
      return undefined;
    case "repeated":
      return [];
    case "map":
      return Object.create(null);
    default:
      return { string: "", bytes: new Uint8Array(0), bool: false, integer: 0, message: undefined }[
        one.kind
      ];
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

class Reader {
  private readonly data: Uint8Array;
  private at = 0;
  constructor(data: Uint8Array) {
    this.data = data;
  }
  get done(): boolean {
    return this.at >= this.data.length;
  }
  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.data[this.at++];
      if (byte === undefined) throw new DecodeError("cut off inside a number");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new DecodeError("a number of more than 10 bytes");
  }
  bytes(): Uint8Array {
    const length = this.varint();
    if (length > BigInt(this.data.length - this.at))
      throw new DecodeError(
        `cut off: ${length} bytes announced, ${this.data.length - this.at} left`,
      );
    const from = this.at;
    this.at += Number(length);
    return this.data.subarray(from, this.at);
  }
  text(): string {
    try {
      return utf8.decode(this.bytes());
    } catch (cause) {
      if (cause instanceof DecodeError) throw cause;
      throw new DecodeError("text that is not UTF-8", { cause });
    }
  }
  skip(wireType: number): void {
    switch (wireType) {
      case wireTypes.varint:
        this.varint();
        break;
      case wireTypes.fixed64:
        this.advance(8);
        break;
      case wireTypes.bytes:
        this.bytes();
        break;
      case wireTypes.fixed32:
        this.advance(4);
        break;
      default:
        throw new DecodeError(`wire type ${wireType}`);
    }
  }
  private advance(bytes: number): void {
    if (this.at + bytes > this.data.length) throw new DecodeError("cut off inside a fixed number");
    this.at += bytes;
  }
}
