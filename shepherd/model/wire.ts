/**
 * Field names on the wire are snake_case, in code camelCase: this is the only place that translates.
 * Keys are field names, never data; a map keyed by names must be an array of rows on the wire.
 */
type Snake<Text extends string> = Text extends `${infer Head}${infer Tail}`
  ? Head extends Lowercase<Head>
    ? `${Head}${Snake<Tail>}`
    : `_${Lowercase<Head>}${Snake<Tail>}`
  : Text;

/** The wire shape of a model type. */
export type Wire<T> = T extends string | number | boolean | null | undefined
  ? T // flavoured ids and units are intersections, which would count as objects below
  : T extends readonly unknown[]
    ? { [K in keyof T]: Wire<T[K]> }
    : T extends object
      ? { [K in keyof T as K extends string ? Snake<K> : K]: Wire<T[K]> }
      : T;

export function toWire<T>(value: T): Wire<T> {
  return translate(value, (key) =>
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  ) as Wire<T>;
}

export function fromWire<T>(value: Wire<T>): T {
  return translate(value, (key) =>
    key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()),
  ) as T;
}

function translate(value: unknown, rename: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => translate(item, rename));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [rename(key), translate(item, rename)]),
  );
}
