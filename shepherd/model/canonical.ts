/** Canonical JSON and its digest: what plans, policy inputs and evidence entries are named by. */
import { createHash } from "node:crypto";
import type { Digest } from "#model/units";

/**
 * JSON with keys sorted by code unit, no spaces, undefined fields dropped. The same for a value and for what is read back
 * of its JSON. Every decision is hashed by it: loops, one string and kept keys, because closures cost more than half of
 * the time and quoting keys most of the rest.
 */
export function canonicalJson(value: unknown): string {
  if (typeof value !== "object" || value === null) {
    if (typeof value === "number") return Number.isFinite(value) ? `${value}` : "null";
    return JSON.stringify(value) ?? "null";
  }
  if (Array.isArray(value)) {
    let list = "";
    for (const item of value as readonly unknown[]) {
      list += list === "" ? canonicalJson(item) : `,${canonicalJson(item)}`;
    }
    return `[${list}]`;
  }
  const fields = value as Readonly<Record<string, unknown>>;
  const keys = Object.keys(fields);
  if (!isSorted(keys)) keys.sort();
  let text = "";
  for (const key of keys) {
    const item = fields[key];
    if (item === undefined) continue;
    text += text === "" ? quoted(key) : `,${quoted(key)}`;
    text += canonicalJson(item);
  }
  return `{${text}}`;
}

export function digestOf(value: unknown): Digest {
  return digestOfText(canonicalJson(value));
}

export function digestOfText(text: string): Digest {
  return createHash("sha256").update(text).digest("hex");
}

/** Canonical JSON of a record that is never changed after it was made: written once, however often it is asked for. */
export function recordJson(record: object): string {
  const known = recordTexts.get(record);
  if (known !== undefined) return known;
  const text = canonicalJson(record);
  recordTexts.set(record, text);
  return text;
}

const recordTexts = new WeakMap<object, string>();

/** Names of fields come again and again; names of machines and rules are as many as there are. */
const maxQuoted = 4_096;
const quotedKeys = new Map<string, string>();

/** The key as it stands before its value. */
function quoted(key: string): string {
  const known = quotedKeys.get(key);
  if (known !== undefined) return known;
  const text = `${JSON.stringify(key)}:`;
  if (quotedKeys.size < maxQuoted) quotedKeys.set(key, text);
  return text;
}

function isSorted(keys: readonly string[]): boolean {
  let before = "";
  for (const key of keys) {
    if (key < before) return false;
    before = key;
  }
  return true;
}
