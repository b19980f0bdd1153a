/** Canonical JSON and its digest: what plans, policy inputs and evidence entries are named by. */
import { createHash } from "node:crypto";
import type { Digest } from "#model/units";

/**
 * JSON with keys sorted by code unit, no spaces, undefined fields dropped. The same for a value and for what is read back
 * of its JSON. Every decision is hashed by it: loops and one string, because closures cost more than half of the time.
 */
export function canonicalJson(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if (Array.isArray(value)) {
    let list = "";
    for (const item of value as readonly unknown[]) {
      list += list === "" ? canonicalJson(item) : `,${canonicalJson(item)}`;
    }
    return `[${list}]`;
  }
  const fields = value as Readonly<Record<string, unknown>>;
  let text = "";
  for (const key of Object.keys(fields).sort()) {
    const item = fields[key];
    if (item === undefined) continue;
    text += `${text === "" ? "" : ","}${JSON.stringify(key)}:${canonicalJson(item)}`;
  }
  return `{${text}}`;
}

export function digestOf(value: unknown): Digest {
  return createHash("sha256").update(canonicalJson(value)).digest("hex");
}
