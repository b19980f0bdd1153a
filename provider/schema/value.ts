/**
 * Values as Terraform knows them: null, not yet known, strings, exact numbers, booleans, lists and objects.
 * Pure; knows neither the wire nor any schema.
 */

/** A value that exists only after apply. There is one, so it is compared by identity. */
export const unknown: Unknown = Object.freeze({ kind: "unknown" });
export interface Unknown {
  readonly kind: "unknown";
}

/** A number that a JavaScript number cannot hold exactly, as decimal text ("0.1", "1e400"). */
export class Decimal {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Numbers: `number` when exact (whole and safe, or an exact double), `bigint` beyond 2^53, else `Decimal`. */
export type Value =
  | null
  | Unknown
  | string
  | boolean
  | number
  | bigint
  | Decimal
  | readonly Value[]
  | ObjectValue;
export interface ObjectValue {
  readonly [name: string]: Value;
}

export function isUnknown(value: unknown): value is Unknown {
  return value === unknown;
}

export function isObject(value: unknown): value is ObjectValue {
  return (
    typeof value === "object" &&
    value !== null &&
    value !== unknown &&
    !Array.isArray(value) &&
    !(value instanceof Decimal)
  );
}

export function isList(value: unknown): value is readonly Value[] {
  return Array.isArray(value);
}

/** True when no part of the value is unknown. */
export function isWhollyKnown(value: Value): boolean {
  if (isUnknown(value)) return false;
  if (isList(value)) return value.every(isWhollyKnown);
  return !isObject(value) || Object.values(value).every(isWhollyKnown);
}

/** Deep equality as Terraform sees it; an unknown equals nothing known. Lists are compared in order. */
export function equal(left: Value, right: Value): boolean {
  if (left === right) return true;
  if (left instanceof Decimal && right instanceof Decimal) return left.text === right.text;
  if (isList(left) && isList(right)) {
    return left.length === right.length && left.every((item, i) => equal(item, right[i] ?? null));
  }
  if (!isObject(left) || !isObject(right)) return false;
  const names = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...names].every((name) => equal(left[name] ?? null, right[name] ?? null));
}
