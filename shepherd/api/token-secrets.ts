/**
 * Secrets of new tokens, made of a key that only this shepherd has and of the call that asked for them. So a client whose
 * answer was lost is told the same secret again, and no secret is ever written down. The key is thrown away after two days
 * at most: from then on nobody can make that secret again, whatever they find on the disk. docs/decisions/0019.
 */
import { createHmac, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { errorCode } from "#model/error-code";
import type { Ms } from "#model/units";

export interface TokenSecrets {
  /** For a new token. Without a call it is random. */
  make(callId: string | undefined): string;
  /** All that this call can have been told. */
  madeFor(callId: string): readonly string[];
}

interface Key {
  readonly sinceMs: Ms;
  readonly key: string;
}

/** Secrets are made of a key for so long, and can be made again for as long after that. */
const usedMs: Ms = 24 * 3_600_000;
/** So long that a plain hash of a secret cannot be searched. */
const secretBytes = 32;
const prefix = "drover_";

/** `file` (mode 0600) holds the keys, at most two. */
export function createTokenSecrets(file: string, nowMs: () => Ms): TokenSecrets {
  let keys = readKeys(file);
  const living = () => keys.filter(({ sinceMs }) => nowMs() < sinceMs + 2 * usedMs);
  const forget = () => {
    if (living().length !== keys.length) keys = writeKeys(file, living());
  };
  const current = (): Key => {
    const [newest] = living();
    if (newest !== undefined && nowMs() < newest.sinceMs + usedMs) return newest;
    const made = { sinceMs: nowMs(), key: randomBytes(secretBytes).toString("base64url") };
    keys = writeKeys(file, [made, ...living()]);
    return made;
  };
  forget();
  return {
    make(callId) {
      if (callId === undefined) return `${prefix}${randomBytes(secretBytes).toString("base64url")}`;
      return secretOf(current(), callId);
    },
    madeFor(callId) {
      forget();
      return keys.map((key) => secretOf(key, callId));
    },
  };
}

function secretOf({ key }: Key, callId: string): string {
  const hash = createHmac("sha256", Buffer.from(key, "base64url")).update(`token ${callId}`);
  return `${prefix}${hash.digest("base64url")}`;
}

function readKeys(file: string): readonly Key[] {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Key[]; // written by writeKeys() only
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}

/** Newest first. */
function writeKeys(file: string, keys: readonly Key[]): readonly Key[] {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, `${JSON.stringify(keys)}\n`, { mode: 0o600, flush: true });
  renameSync(`${file}.new`, file);
  return keys;
}
