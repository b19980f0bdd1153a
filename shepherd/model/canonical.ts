/** Canonical JSON and its digest: what plans, policy inputs and evidence entries are named by. */
import { createHash } from "node:crypto";
import { Recent } from "#model/recent";
import type { Digest } from "#model/units";

/**
 * JSON with keys sorted by code unit, no spaces, undefined fields dropped. The same for a value and for what is read back
 * of its JSON. Every decision is hashed by it, so the engine writes it: that takes two thirds of the time of writing it here.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(inOrder(value)) ?? "null";
}

/** A copy whose keys are listed in order, and nothing of a class left that could write itself otherwise. */
function inOrder(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(inOrder);
  const fields = value as Readonly<Record<string, unknown>>;
  const keys = Object.keys(fields);
  if (!isSorted(keys)) keys.sort();
  if (isListedOtherwise(keys)) {
    const copy = Object.create(null) as Record<string, unknown>;
    for (const key of keys) copy[key] = inOrder(fields[key]);
    return new Proxy(copy, { ownKeys: () => keys });
  }
  const copy: Record<string, unknown> = {};
  for (const key of keys) copy[key] = inOrder(fields[key]);
  return copy;
}

/** Keys that look like numbers an object lists first and as numbers; `__proto__` is none that can be set. */
function isListedOtherwise(sortedKeys: readonly string[]): boolean {
  const [first] = sortedKeys;
  return (first !== undefined && first < ":") || sortedKeys.includes("__proto__");
}

export function digestOf(value: unknown): Digest {
  return digestOfText(canonicalJson(value));
}

export function digestOfText(text: string): Digest {
  return createHash("sha256").update(text).digest("hex");
}

/** Canonical JSON of a record that is never changed after it was made: written once for those who ask one after the other. */
export function recordJson(record: object): string {
  const known = recordTexts.get(record);
  if (known !== undefined) return known;
  const text = canonicalJson(record);
  recordTexts.set(record, text);
  return text;
}

/** A record is hashed by the event that follows it, in the same transaction. */
const recordTexts = new Recent<object, string>(4);

function isSorted(keys: readonly string[]): boolean {
  let before = "";
  for (const key of keys) {
    if (key < before) return false;
    before = key;
  }
  return true;
}
