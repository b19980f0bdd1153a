/**
 * Checkpoints of the chain, pure: "entry `seq` of this journal has this hash", signed with Ed25519. One says everything
 * about what came before, because hashes are chained. A line of JSON each, so that files of them can only grow.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { canonicalJson } from "#model/canonical";
import type { Digest, Ms } from "#model/units";

export interface Checkpoint {
  /** Which journal: the line of its epochs. */
  readonly origin: string;
  readonly epoch: number;
  readonly seq: number;
  readonly hash: Digest;
  readonly at_ms: Ms;
  /** First 16 hex digits of the key's SHA-256. */
  readonly key: string;
  /** Base64 of the signature over all other fields, as canonical JSON. */
  readonly signature: string;
}

/** PEM of a public key, as its short name. */
export function keyName(publicKey: string): string {
  const der = createPublicKey(publicKey).export({ type: "spki", format: "der" });
  return createHash("sha256").update(der).digest("hex").slice(0, 16);
}

/** The signed line, without its line break. */
export function signCheckpoint(
  unsigned: Omit<Checkpoint, "signature">,
  privateKey: KeyObject,
): string {
  const signature = sign(null, Buffer.from(canonicalJson(unsigned)), privateKey).toString("base64");
  return JSON.stringify({ ...unsigned, signature });
}

/** The checkpoint of a line; undefined when nobody with this key wrote it. Never throws. */
export function readCheckpoint(line: string, publicKey: KeyObject): Checkpoint | undefined {
  try {
    const { signature, ...unsigned } = JSON.parse(line) as Checkpoint;
    const isGenuine = verify(
      null,
      Buffer.from(canonicalJson(unsigned)),
      publicKey,
      Buffer.from(String(signature), "base64"),
    );
    return isGenuine ? { ...unsigned, signature } : undefined;
  } catch {
    // not JSON, or not of this shape: nobody's
    return undefined;
  }
}
