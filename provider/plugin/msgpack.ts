/**
 * Terraform values as MessagePack, directed by their type: unknowns (extension 0, or 12 when refined), whole numbers
 * beyond 2^53 as bigint, decimals as the strings that Terraform sends. Pure; knows no protocol message.
 * Source: msgpack.org's specification and go-cty's docs/concepts/refinements and msgpack package.
 */
import { isNested, type ValueType } from "#schema/attribute";
import {
  Decimal,
  isList,
  isObject,
  isUnknown,
  type ObjectValue,
  unknown,
  type Value,
} from "#schema/value";
import { DecodeError } from "./protobuf.ts";

/** Fixed by go-cty: a refined unknown. Its body is not needed, a plain unknown may always be answered. */
const refinedUnknown = 12;
const maxDepth = 100;

/** Extension 12 with the map { 1: false }: unknown, but not null. */
const unknownNotNull = Buffer.from([0xc7, 0x03, refinedUnknown, 0x81, 0x01, 0xc2]);
const plainUnknown = Buffer.from([0xd4, 0x00, 0x00]);

/**
 * Bytes of `value`, which must be of `type`. Attributes of `neverNull` that are unknown are told to have a value in the
 * end. @throws TypeError, naming the place, when it is not of the type: a bug of ours.
 */
export function encodeValue(
  type: ValueType,
  value: Value,
  neverNull: ReadonlySet<string> = new Set(),
): Buffer {
  const out: Buffer[] = [];
  write(out, type, value, "value", neverNull);
  return Buffer.concat(out);
}

function write(
  out: Buffer[],
  type: ValueType,
  value: Value,
  where: string,
  neverNull: ReadonlySet<string>,
): void {
  if (isUnknown(value)) out.push(plainUnknown);
  else if (value === null || value === undefined) out.push(Buffer.from([0xc0]));
  else if (type === "string" && typeof value === "string") writeText(out, value);
  else if (type === "bool" && typeof value === "boolean")
    out.push(Buffer.from([value ? 0xc3 : 0xc2]));
  else if (type === "number") writeNumber(out, value, where);
  else if (type === "dynamic") {
    const actual = guessType(value);
    out.push(Buffer.from([0x92]));
    writeBytes(out, Buffer.from(JSON.stringify(actual)));
    write(out, actual, value, where, nothing);
  } else if (Array.isArray(type))
    writeCollection(out, type as CollectionType, { value, where, neverNull });
  else throw new TypeError(`${where}: ${typeof value} where ${JSON.stringify(type)} is due`);
}

type CollectionType = Exclude<ValueType, string>;

/** Only the outermost object's attributes are declared to have a value. */
const nothing: ReadonlySet<string> = new Set();

function writeCollection(
  out: Buffer[],
  type: CollectionType,
  of: {
    readonly value: Value;
    readonly where: string;
    readonly neverNull: ReadonlySet<string>;
  },
): void {
  const [kind, inner] = type;
  const { value, where, neverNull } = of;
  if (kind === "object" && isObject(value)) {
    const names = Object.keys(inner).toSorted();
    const extra = Object.keys(value).find((name) => !(name in inner));
    if (extra !== undefined) throw new TypeError(`${where}: no attribute ${extra}`);
    writeHead(out, names.length, { fix: 0x80, wide: 0xde, widest: 0xdf });
    for (const name of names) {
      writeText(out, name);
      const item = value[name] ?? null;
      if (isUnknown(item) && neverNull.has(name)) out.push(unknownNotNull);
      else write(out, inner[name] ?? "dynamic", item, `${where}.${name}`, nothing);
    }
  } else if (kind === "map" && isObject(value)) {
    const entries = Object.entries(value);
    writeHead(out, entries.length, { fix: 0x80, wide: 0xde, widest: 0xdf });
    for (const [name, item] of entries) {
      writeText(out, name);
      write(out, inner, item, `${where}.${name}`, nothing);
    }
  } else if ((kind === "list" || kind === "set") && isList(value)) {
    writeHead(out, value.length, { fix: 0x90, wide: 0xdc, widest: 0xdd });
    value.forEach((item, i) => write(out, inner, item, `${where}[${i}]`, nothing));
  } else throw new TypeError(`${where}: ${typeof value} where ${kind} is due`);
}

function guessType(value: Value): ValueType {
  if (typeof value === "string") return "string";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number" || typeof value === "bigint" || value instanceof Decimal)
    return "number";
  if (isObject(value))
    return [
      "object",
      Object.fromEntries(Object.entries(value).map(([name, item]) => [name, guessType(item)])),
    ];
  throw new TypeError("a dynamic value must be a string, a number, a bool or an object");
}

function writeNumber(out: Buffer[], value: Value, where: string): void {
  if (value instanceof Decimal) writeText(out, value.text);
  else if (typeof value === "bigint") {
    if (value >= -(2n ** 63n) && value < 2n ** 63n) writeInteger(out, value);
    else if (value >= 0n && value < 2n ** 64n)
      out.push(fixed(0xcf, (b) => b.writeBigUInt64BE(value)));
    else writeText(out, value.toString());
  } else if (typeof value === "number" && Number.isSafeInteger(value))
    writeInteger(out, BigInt(value));
  else if (typeof value === "number" && Number.isFinite(value))
    out.push(fixed(0xcb, (b) => b.writeDoubleBE(value)));
  else throw new TypeError(`${where}: ${String(value)} where a number is due`);
}

function fixed(head: number, fill: (body: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(9);
  bytes[0] = head;
  fill(bytes.subarray(1));
  return bytes;
}

function writeInteger(out: Buffer[], value: bigint): void {
  const number = Number(value);
  if (value >= 0n && value < 128n) out.push(Buffer.from([number]));
  else if (value >= -32n && value < 0n) out.push(Buffer.from([number & 0xff]));
  else if (value >= -(2n ** 31n) && value < 2n ** 31n) {
    const bytes = Buffer.alloc(5);
    bytes[0] = 0xd2;
    bytes.writeInt32BE(number, 1);
    out.push(bytes);
  } else out.push(fixed(0xd3, (b) => b.writeBigInt64BE(value)));
}

function writeText(out: Buffer[], text: string): void {
  const bytes = Buffer.from(text);
  const { length } = bytes;
  if (length < 32) out.push(Buffer.from([0xa0 | length]));
  else if (length < 256) out.push(Buffer.from([0xd9, length]));
  else writeWide(out, length, { wide: 0xda, widest: 0xdb });
  out.push(bytes);
}

function writeBytes(out: Buffer[], bytes: Buffer): void {
  if (bytes.length < 256) out.push(Buffer.from([0xc4, bytes.length]));
  else writeWide(out, bytes.length, { wide: 0xc5, widest: 0xc6 });
  out.push(bytes);
}

function writeHead(
  out: Buffer[],
  length: number,
  heads: { fix: number; wide: number; widest: number },
): void {
  if (length < 16) out.push(Buffer.from([heads.fix | length]));
  else writeWide(out, length, heads);
}

function writeWide(out: Buffer[], length: number, heads: { wide: number; widest: number }): void {
  const head = Buffer.alloc(length < 65_536 ? 3 : 5);
  head[0] = length < 65_536 ? heads.wide : heads.widest;
  if (length < 65_536) head.writeUInt16BE(length, 1);
  else head.writeUInt32BE(length, 1);
  out.push(head);
}

/** @throws DecodeError when the bytes are not exactly one value of this type. */
export function decodeValue(type: ValueType, bytes: Uint8Array): Value {
  const reader = new Reader(bytes);
  const value = read(reader, type, "value", 0);
  if (!reader.done) throw new DecodeError("bytes after the value");
  return value;
}

function read(reader: Reader, type: ValueType, where: string, depth: number): Value {
  if (depth > maxDepth) throw new DecodeError(`${where}: nested deeper than ${maxDepth}`);
  const token = reader.token();
  if (token.kind === "nil") return null;
  if (token.kind === "extension") {
    if (token.type === refinedUnknown || token.length <= 1) return unknown;
    throw new DecodeError(`${where}: extension ${token.type}`);
  }
  if (type === "dynamic") return readDynamic(reader, token, where, depth);
  if (typeof type === "string") return readPrimitive(type, token, where);
  const [kind, inner] = type;
  if (kind === "list" || kind === "set") {
    if (token.kind !== "array") throw mismatch(where, kind, token);
    return times(token.length, (i) => read(reader, inner, `${where}[${i}]`, depth + 1));
  }
  if (token.kind !== "map") throw mismatch(where, kind, token);
  const entries = times(token.length, (): [string, Value] => {
    const name = reader.token();
    if (name.kind !== "string") throw mismatch(where, "an attribute name", name);
    const innerType = kind === "object" ? attributeType(inner, name.value) : inner;
    if (innerType === undefined) throw new DecodeError(`${where}: no attribute ${name.value}`);
    return [name.value, read(reader, innerType, `${where}.${name.value}`, depth + 1)];
  });
  const object: ObjectValue = Object.fromEntries(entries);
  if (kind !== "object") return object;
  return Object.fromEntries(Object.keys(inner).map((name) => [name, object[name] ?? null]));
}

function attributeType(
  of: Readonly<Record<string, ValueType>>,
  name: string,
): ValueType | undefined {
  return Object.hasOwn(of, name) ? of[name] : undefined;
}

function readDynamic(reader: Reader, token: Token, where: string, depth: number): Value {
  if (token.kind !== "array" || token.length !== 2) throw mismatch(where, "a dynamic value", token);
  const described = reader.token();
  if (described.kind !== "bytes" && described.kind !== "string")
    throw mismatch(where, "a type", described);
  let type: unknown;
  try {
    type = JSON.parse(
      described.kind === "string" ? described.value : Buffer.from(described.value).toString(),
    );
  } catch (cause) {
    throw new DecodeError(`${where}: a type that is not JSON`, { cause });
  }
  if (!isValueType(type)) throw new DecodeError(`${where}: an unknown type`);
  return read(reader, type, where, depth + 1);
}

/** True for a type constraint in its JSON shape; tuples are not among those that we declare. */
export function isValueType(type: unknown): type is ValueType {
  if (typeof type === "string") return ["string", "number", "bool", "dynamic"].includes(type);
  if (!Array.isArray(type) || isNested(type as never)) return false;
  const [kind, inner] = type as unknown[];
  if (kind === "list" || kind === "set" || kind === "map") return isValueType(inner);
  return (
    kind === "object" &&
    typeof inner === "object" &&
    inner !== null &&
    Object.values(inner).every(isValueType)
  );
}

function readPrimitive(type: "string" | "number" | "bool", token: Token, where: string): Value {
  if (type === "bool" && token.kind === "bool") return token.value;
  if (type === "string" && token.kind === "string") return token.value;
  if (type === "number" && token.kind === "integer") return narrow(token.value);
  if (type === "number" && token.kind === "float") return token.value;
  if (type === "number" && token.kind === "string") return readDecimal(token.value, where);
  throw mismatch(where, type, token);
}

/** Text that Terraform sends where no machine number is exact. */
export function readDecimal(text: string, where: string): Value {
  if (!/^-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?$/.test(text))
    throw new DecodeError(`${where}: ${JSON.stringify(text.slice(0, 40))} is no number`);
  return /^-?\d+$/.test(text) ? narrow(BigInt(text)) : new Decimal(text);
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function mismatch(where: string, due: string, token: Token): DecodeError {
  return new DecodeError(`${where}: ${token.kind} where ${due} is due`);
}

function times<T>(count: number, make: (i: number) => T): T[] {
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(make(i));
  return items;
}

type Token =
  | { readonly kind: "nil" }
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "integer"; readonly value: bigint }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "bytes"; readonly value: Uint8Array }
  | { readonly kind: "array" | "map"; readonly length: number }
  | { readonly kind: "extension"; readonly type: number; readonly length: number };

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads one token after the other; lengths are checked against what is left before anything is made of them. */
class Reader {
  private readonly view: DataView;
  private readonly data: Uint8Array;
  private at = 0;
  constructor(data: Uint8Array) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }
  get done(): boolean {
    return this.at === this.data.length;
  }

  token(): Token {
    const head = this.view.getUint8(this.advance(1));
    if (head < 0x80) return { kind: "integer", value: BigInt(head) };
    if (head < 0x90) return this.counted("map", head & 0x0f);
    if (head < 0xa0) return this.counted("array", head & 0x0f);
    if (head < 0xc0) return this.text(head & 0x1f);
    if (head >= 0xe0) return { kind: "integer", value: BigInt(head - 256) };
    switch (head) {
      case 0xc0:
        return { kind: "nil" };
      case 0xc2:
      case 0xc3:
        return { kind: "bool", value: head === 0xc3 };
      case 0xca:
        return { kind: "float", value: this.view.getFloat32(this.advance(4)) };
      case 0xcb:
        return { kind: "float", value: this.view.getFloat64(this.advance(8)) };
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return { kind: "bytes", value: this.bytes(this.length(head - 0xc4)) };
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.length(head - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.counted("array", this.length(head - 0xdb));
      case 0xde:
      case 0xdf:
        return this.counted("map", this.length(head - 0xdd));
      default:
        return this.integerOrExtension(head);
    }
  }

  private integerOrExtension(head: number): Token {
    if (head >= 0xcc && head <= 0xd3) return { kind: "integer", value: this.integer(head) };
    if (head >= 0xd4 && head <= 0xd8) return this.extension(2 ** (head - 0xd4));
    if (head >= 0xc7 && head <= 0xc9) return this.extension(this.length(head - 0xc7));
    throw new DecodeError(`byte 0x${head.toString(16)} begins no value`);
  }

  private integer(head: number): bigint {
    switch (head) {
      case 0xcc:
        return BigInt(this.view.getUint8(this.advance(1)));
      case 0xcd:
        return BigInt(this.view.getUint16(this.advance(2)));
      case 0xce:
        return BigInt(this.view.getUint32(this.advance(4)));
      case 0xcf:
        return this.view.getBigUint64(this.advance(8));
      case 0xd0:
        return BigInt(this.view.getInt8(this.advance(1)));
      case 0xd1:
        return BigInt(this.view.getInt16(this.advance(2)));
      case 0xd2:
        return BigInt(this.view.getInt32(this.advance(4)));
      default:
        return this.view.getBigInt64(this.advance(8));
    }
  }

  /** 1, 2 or 4 bytes for width 0, 1, 2. */
  private length(width: number): number {
    if (width === 0) return this.view.getUint8(this.advance(1));
    return width === 1
      ? this.view.getUint16(this.advance(2))
      : this.view.getUint32(this.advance(4));
  }
  private text(length: number): Token {
    try {
      return { kind: "string", value: utf8.decode(this.bytes(length)) };
    } catch (cause) {
      if (cause instanceof DecodeError) throw cause;
      throw new DecodeError("text that is not UTF-8", { cause });
    }
  }
  private counted(kind: "array" | "map", length: number): Token {
    if (length > this.data.length - this.at)
      throw new DecodeError(`cut off: ${length} items announced`); // each item takes a byte at least
    return { kind, length };
  }
  private extension(length: number): Token {
    const type = this.view.getInt8(this.advance(1));
    this.advance(length);
    return { kind: "extension", type, length };
  }
  private bytes(length: number): Uint8Array {
    const from = this.advance(length);
    return this.data.subarray(from, from + length);
  }
  private advance(bytes: number): number {
    const from = this.at;
    if (from + bytes > this.data.length) throw new DecodeError("cut off inside a value");
    this.at += bytes;
    return from;
  }
}
