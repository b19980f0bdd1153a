/** Canonical JSON and its digest: what plans, policy inputs and evidence entries are named by. */
import { createHash } from "node:crypto";
import type { Digest } from "#model/units";

/** JSON with keys sorted by code unit, no spaces, undefined fields dropped. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value))
    return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const fields = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`);
  return `{${fields.join(",")}}`;
}

export function digestOf(value: unknown): Digest {
  return createHash("sha256").update(canonicalJson(value)).digest("hex");
}
