/** Arrays of a policy's answer in one order, at every depth: sets have none, and WASM and native OPA differ. */
import { canonicalJson } from "#model/canonical";

export function sorted<T>(value: T): T {
  if (Array.isArray(value)) {
    if (value.length < 2) return value.map((item): unknown => sorted(item)) as T;
    return value
      .map((item): unknown => sorted(item))
      .map((item) => ({ item, key: canonicalJson(item) }))
      .toSorted((left, right) => (left.key < right.key ? -1 : left.key > right.key ? 1 : 0))
      .map(({ item }) => item) as T;
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, sorted(item)])) as T;
}
