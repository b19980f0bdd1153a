import { generateKeyPairSync } from "node:crypto";
import type { BreakGlassDocument } from "@drover/shepherd/model/consent";
import {
  breakGlassPurpose,
  longestGlassMs,
  openGlass,
  readGlassKey,
  signGlass,
} from "@drover/shepherd/policy/break-glass";
import { expect, test } from "@jest/globals";

const nowMs = 1_700_000_000_000;
const trusted = generateKeyPairSync("ed25519");
const stranger = generateKeyPairSync("ed25519");
const document: BreakGlassDocument = {
  purpose: breakGlassPurpose,
  plan_digest: "a".repeat(64),
  by: "ceo",
  reason: "fire",
  not_before_ms: nowMs,
  expires_at_ms: nowMs + 600_000,
};
const open = (
  signed: ReturnType<typeof signGlass>,
  atMs = nowMs,
  keys = [stranger.publicKey, trusted.publicKey],
) => openGlass(signed, keys, atMs);

test("a document that a trusted key has signed opens it, whichever of the keys it was", () => {
  expect(open(signGlass(document, trusted.privateKey))).toEqual(document);
});

test.each<[string, () => unknown, string]>([
  [
    "signed by nobody we know",
    () => open(signGlass(document, trusted.privateKey), nowMs, [stranger.publicKey]),
    "no configured key has signed it",
  ],
  [
    "changed by a byte after it was signed",
    () =>
      open({
        ...signGlass(document, trusted.privateKey),
        document: { ...document, plan_digest: `b${"a".repeat(63)}` },
      }),
    "no configured key has signed it",
  ],
  [
    "made longer after it was signed",
    () =>
      open({
        ...signGlass(document, trusted.privateKey),
        document: { ...document, expires_at_ms: document.expires_at_ms + 1 },
      }),
    "no configured key has signed it",
  ],
  [
    "for another purpose",
    () =>
      open(
        signGlass(
          { ...document, purpose: "something-else" as typeof breakGlassPurpose },
          trusted.privateKey,
        ),
      ),
    "it is for another purpose",
  ],
  [
    "valid for more than an hour",
    () =>
      open(
        signGlass({ ...document, expires_at_ms: nowMs + longestGlassMs + 1 }, trusted.privateKey),
      ),
    "it is valid for longer than an hour",
  ],
  [
    "over",
    () => open(signGlass(document, trusted.privateKey), document.expires_at_ms),
    "it has expired",
  ],
  [
    "of tomorrow",
    () => open(signGlass(document, trusted.privateKey), nowMs - 86_400_000),
    "it is not valid yet",
  ],
])("a document %s opens nothing", (_, attempt, problem) => {
  expect(attempt).toThrow(expect.objectContaining({ code: "break_glass.invalid" }));
  expect(attempt).toThrow(problem);
});

test("without a configured key nothing opens it", () => {
  expect(() => open(signGlass(document, trusted.privateKey), nowMs, [])).toThrow(
    expect.objectContaining({ code: "break_glass.no_key" }),
  );
});

test("only Ed25519 keys are taken", () => {
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  expect(() => readGlassKey(String(publicKey.export({ type: "spki", format: "pem" })))).toThrow(
    "an Ed25519 key is needed, not ec",
  );
});
