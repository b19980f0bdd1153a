/** When two spellings mean the same: `same` functions for attributes of text. Pure. */
import { isUnknown, type Value } from "#schema/value";

const bySpelling =
  (normal: (text: string) => string | undefined) =>
  (left: Value, right: Value): boolean => {
    if (typeof left !== "string" || typeof right !== "string" || isUnknown(left)) return false;
    const [one, other] = [normal(left), normal(right)];
    return one !== undefined && one === other;
  };

/** Hashes and ids: letter case means nothing. */
export const sameLetters = bySpelling((text) => text.toLowerCase());

/** `52:54:00:AB:CD:EF` is `52-54-00-ab-cd-ef`. */
export const sameMac = bySpelling((text) => {
  const digits = text.toLowerCase().replaceAll(/[:.-]/g, "");
  return /^[0-9a-f]{12}$/.test(digits) ? digits : undefined;
});

/** `10.42.0.9/24` names the network `10.42.0.0/24`. */
export const sameCidr = bySpelling((text) => {
  const parts = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined) return undefined;
  const [a = 0, b = 0, c = 0, d = 0, bits = 0] = parts;
  if (bits > 32 || [a, b, c, d].some((part) => part > 255)) return undefined;
  const address = ((a * 256 + b) * 256 + c) * 256 + d;
  return `${address - (address % 2 ** (32 - bits))}/${bits}`;
});

/** JSON with other spaces and key order. */
export const sameJson = bySpelling((text) => {
  try {
    return JSON.stringify(sorted(JSON.parse(text)));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
});

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([left], [right]) => (left < right ? -1 : 1));
  return Object.fromEntries(entries.map(([name, item]) => [name, sorted(item)]));
}
