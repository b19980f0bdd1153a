/** Writes the few ASN.1 types that a certificate needs, in DER (X.690). Pure. */

function tagged(tag: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([tag]), length(body.length), body]);
}

function length(value: number): Buffer {
  if (value < 0x80) return Buffer.from([value]);
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Buffer.from([0x80 | bytes.length, ...bytes]);
}

export function sequence(...items: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(items));
}
export function set(...items: readonly Buffer[]): Buffer {
  return tagged(0x31, Buffer.concat(items.toSorted(Buffer.compare)));
}
/** Big-endian magnitude of a number that is not negative; a zero byte is put before a set top bit. */
export function integer(magnitude: Buffer): Buffer {
  const start = magnitude.findIndex((byte) => byte !== 0);
  const bytes = start === -1 ? Buffer.from([0]) : magnitude.subarray(start);
  return tagged(0x02, (bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}
export function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.from([value ? 0xff : 0x00]));
}
export function bitString(bits: Buffer, unusedBits: number): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.from([unusedBits]), bits]));
}
export function octetString(bytes: Buffer): Buffer {
  return tagged(0x04, bytes);
}
export function utf8String(text: string): Buffer {
  return tagged(0x0c, Buffer.from(text));
}
/** GeneralizedTime in UTC, whole seconds. */
export function time(atMs: number): Buffer {
  const text = new Date(atMs).toISOString().replace(/[-:T]|\.\d+/g, "");
  return tagged(0x18, Buffer.from(text));
}
/** `[number]`: around what it holds, or, not constructed, in place of a primitive's own tag. */
export function contextTag(
  number: number,
  body: Buffer,
  options: { constructed: boolean } = { constructed: true },
): Buffer {
  return tagged((options.constructed ? 0xa0 : 0x80) | number, body);
}
export function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((part) => {
    const groups = [part % 128];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left % 128) | 0x80);
    return groups;
  });
  return tagged(0x06, Buffer.from(bytes));
}
