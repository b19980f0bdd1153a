/** Terraform's values on the wire, by @msgpack/msgpack: unknowns, refined ones, decimals. Knows no provider. */
import { decode, ExtensionCodec, encode } from "@msgpack/msgpack";

/** A value that is known only after apply; `refinements` are what Terraform may already know of it. */
export class UnknownValue {
  readonly refinements: Refinements | undefined;
  constructor(refinements?: Refinements) {
    this.refinements = refinements;
  }
}
export interface Refinements {
  readonly notNull?: true;
  readonly prefix?: string;
  readonly min?: readonly [number, boolean];
  readonly max?: readonly [number, boolean];
  readonly lengthMin?: number;
  readonly lengthMax?: number;
}
/** go-cty's keys of a refined unknown's map. */
const keys = { notNull: 1, prefix: 2, min: 3, max: 4, lengthMin: 5, lengthMax: 6 } as const;
const refinedType = 12;

const extensions = new ExtensionCodec();
extensions.register({
  type: 0,
  encode: (value) =>
    value instanceof UnknownValue && value.refinements === undefined ? new Uint8Array([0]) : null,
  decode: () => new UnknownValue(),
});
extensions.register({
  type: refinedType,
  encode: (value) => {
    if (!(value instanceof UnknownValue) || value.refinements === undefined) return null;
    const parts = Object.entries(value.refinements).map(([name, body]) =>
      Buffer.concat([
        Buffer.from([keys[name as keyof typeof keys]]),
        encode(name === "notNull" ? false : body),
      ]),
    );
    return Buffer.concat([Buffer.from([0x80 | parts.length]), ...parts]);
  },
  decode: (body) => {
    const told = decode(body) as Readonly<Record<string, unknown>>;
    return new UnknownValue(told[keys.notNull] === false ? { notNull: true } : {});
  },
});

export interface WireValue {
  readonly msgpack: Uint8Array;
}
export function toValue(value: unknown): Record<string, unknown> {
  return { msgpack: encode(value, { extensionCodec: extensions }) };
}
/** Null for an absent value. Answers may come as JSON too. */
export function fromValue(value: unknown): unknown {
  if (value === null || value === undefined) return null;
  const { msgpack, json } = value as { msgpack: Uint8Array; json?: Uint8Array };
  if (msgpack.length === 0 && json !== undefined && json.length > 0)
    return JSON.parse(Buffer.from(json).toString());
  return decode(msgpack, { extensionCodec: extensions });
}
