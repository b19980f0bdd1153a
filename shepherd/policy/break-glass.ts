/**
 * The emergency door, checked by code and not by Rego: a document that names one plan digest, signed by an offline
 * Ed25519 key that drover.yaml trusts, valid for at most an hour. Pure; the gate uses it once and logs it whole.
 */
import { createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { canonicalJson } from "#model/canonical";
import type { BreakGlassDocument, SignedBreakGlass } from "#model/consent";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

export const breakGlassPurpose: BreakGlassDocument["purpose"] = "drover-break-glass-1";
/** Long enough to carry a file from one room to the other, too short to keep one in a drawer. */
export const longestGlassMs: Ms = 3_600_000;
/** Clocks of an offline machine are off; more than this is no accident. */
const clockSkewMs: Ms = 300_000;

/** Public keys as PEM. Fault `config.invalid` is thrown by who reads them; a key of another kind is refused here. */
export function readGlassKey(pem: string): KeyObject {
  const key = createPublicKey(pem);
  if (key.asymmetricKeyType !== "ed25519") {
    throw new Error(`an Ed25519 key is needed, not ${String(key.asymmetricKeyType)}`);
  }
  return key;
}

export function signGlass(document: BreakGlassDocument, privateKey: KeyObject): SignedBreakGlass {
  return { document, signature: sign(null, bytesOf(document), privateKey).toString("base64") };
}

/** The document when a trusted key signed it and it is valid now. Faults `break_glass.no_key`, `break_glass.invalid`. */
export function openGlass(
  signed: SignedBreakGlass,
  trusted: readonly KeyObject[],
  nowMs: Ms,
): BreakGlassDocument {
  if (trusted.length === 0) throw new Fault("break_glass.no_key");
  const { document } = signed;
  const refuse = (problem: string) => new Fault("break_glass.invalid", { problem });
  if (document.purpose !== breakGlassPurpose) throw refuse("it is for another purpose");
  const signature = Buffer.from(signed.signature, "base64");
  if (!trusted.some((key) => verify(null, bytesOf(document), key, signature))) {
    throw refuse("no configured key has signed it");
  }
  const { not_before_ms: fromMs, expires_at_ms: untilMs } = document;
  if (!Number.isSafeInteger(fromMs) || !Number.isSafeInteger(untilMs)) {
    throw refuse("it does not say from when to when it is valid");
  }
  if (untilMs - fromMs > longestGlassMs) throw refuse("it is valid for longer than an hour");
  if (fromMs > nowMs + clockSkewMs) throw refuse("it is not valid yet");
  if (untilMs <= nowMs) throw refuse("it has expired");
  return document;
}

function bytesOf(document: BreakGlassDocument): Buffer {
  return Buffer.from(canonicalJson(document), "utf8");
}
