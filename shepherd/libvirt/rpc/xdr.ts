/**
 * XDR (RFC 4506) as libvirt uses it: big-endian, everything padded to four bytes. The reader trusts nothing: every
 * length is checked against a limit and against the bytes that are left before anything is allocated.
 * Knows bytes, not libvirt's types; those are in schema.ts. Hypers are bigint here and only here.
 */
import { Fault } from "#model/fault";

/** What libvirt's daemons accept and send; a count above its limit is refused before it is believed. */
export const limits = {
  /** Length word, header and payload of one message. */
  messageBytes: 32 * 1024 * 1024,
  stringBytes: 4 * 1024 * 1024,
  /** Opaque data in calls: cookies, secrets, CPU maps. */
  opaqueBytes: 4 * 1024 * 1024,
  domains: 16_384,
  /** Lists that libvirt bounds only by the message: pools, volumes, guest interfaces. */
  listItems: 16_384,
  domainStatsParameters: 262_144,
  typedParameters: 2_048,
  migrationParameters: 64,
  jobStatsParameters: 64,
  typedParameterNameBytes: 80,
  /** Payload of one stream data packet: what the daemon sends at most, and we too. */
  streamPacketBytes: 262_120,
} as const;

const utf8 = new TextDecoder("utf-8", { fatal: true });
const lenientUtf8 = new TextDecoder("utf-8");

export class XdrWriter {
  #buffer = Buffer.allocUnsafe(256);
  #length = 0;

  /** The bytes written so far; valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  u32(value: number): void {
    requireInteger(value, 0, 0xffff_ffff, "u32");
    const at = this.#reserve(4);
    this.#buffer.writeUInt32BE(value, at);
  }

  i32(value: number): void {
    requireInteger(value, -0x8000_0000, 0x7fff_ffff, "i32");
    const at = this.#reserve(4);
    this.#buffer.writeInt32BE(value, at);
  }

  u64(value: bigint): void {
    requireHyper(value, 0n, 0xffff_ffff_ffff_ffffn, "u64");
    const at = this.#reserve(8);
    this.#buffer.writeBigUInt64BE(value, at);
  }

  i64(value: bigint): void {
    requireHyper(value, -0x8000_0000_0000_0000n, 0x7fff_ffff_ffff_ffffn, "i64");
    const at = this.#reserve(8);
    this.#buffer.writeBigInt64BE(value, at);
  }

  f64(value: number): void {
    const at = this.#reserve(8);
    this.#buffer.writeDoubleBE(value, at);
  }

  /** Raw bytes of a fixed, known length, padded. */
  fixed(bytes: Uint8Array): void {
    const at = this.#reserve(padded(bytes.length));
    this.#buffer.set(bytes, at);
    this.#buffer.fill(0, at + bytes.length, this.#length);
  }

  opaque(bytes: Uint8Array, maxBytes: number): void {
    if (bytes.length > maxBytes) throw protocolFault(`${bytes.length} bytes, at most ${maxBytes}`);
    this.u32(bytes.length);
    this.fixed(bytes);
  }

  string(text: string, maxBytes: number): void {
    if (text.includes("\0")) throw protocolFault("a string with a NUL byte cannot be sent");
    this.opaque(Buffer.from(text, "utf8"), maxBytes);
  }

  #reserve(bytes: number): number {
    const at = this.#length;
    const needed = at + bytes;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#length = needed;
    return at;
  }
}

export class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.#at;
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  i32(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64BE(this.#take(8));
  }

  i64(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8));
  }

  f64(): number {
    return this.#bytes.readDoubleBE(this.#take(8));
  }

  /** A copy of exactly `length` bytes; the padding after them must be zero. */
  fixed(length: number): Buffer {
    const at = this.#take(padded(length));
    for (let i = at + length; i < this.#at; i += 1) {
      if (this.#bytes[i] !== 0) throw protocolFault("padding is not zero");
    }
    return Buffer.from(this.#bytes.subarray(at, at + length));
  }

  opaque(maxBytes: number): Buffer {
    const length = this.u32();
    if (length > maxBytes) throw protocolFault(`${length} bytes announced, at most ${maxBytes}`);
    return this.fixed(length);
  }

  /** UTF-8; what is not UTF-8 (a foreign domain's old name) is kept with replacement characters, never refused. */
  string(maxBytes: number): string {
    const bytes = this.opaque(maxBytes);
    try {
      return utf8.decode(bytes);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      return lenientUtf8.decode(bytes);
    }
  }

  /** A list's count, refused when over the limit or when its smallest possible items cannot be in what is left. */
  count(maxItems: number, smallestItemBytes: number): number {
    const items = this.u32();
    if (items > maxItems) throw protocolFault(`${items} items announced, at most ${maxItems}`);
    if (items * smallestItemBytes > this.remainingBytes) {
      throw protocolFault(`${items} items announced, only ${this.remainingBytes} bytes follow`);
    }
    return items;
  }

  /** Everything must have been read: a rest means that both ends disagree about the type. */
  end(): void {
    if (this.remainingBytes !== 0) throw protocolFault(`${this.remainingBytes} bytes left over`);
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (bytes > this.#bytes.length - at) {
      throw protocolFault(`needs ${bytes} bytes, ${this.#bytes.length - at} are left`);
    }
    this.#at = at + bytes;
    return at;
  }
}

/** The bytes do not follow the protocol; nothing read after it can be trusted. */
export function protocolFault(problem: string): Fault {
  return new Fault("libvirt.protocol", { problem });
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

function requireInteger(value: number, min: number, max: number, type: string): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw protocolFault(`${value} is no ${type}`);
  }
}

function requireHyper(value: bigint, min: bigint, max: bigint, type: string): void {
  if (value < min || value > max) throw protocolFault(`${value} is no ${type}`);
}
