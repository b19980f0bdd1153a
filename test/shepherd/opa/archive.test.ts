import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { isFault } from "@drover/shepherd/model/fault";
import { packBundle, readBundle, type WholeBundle } from "@drover/shepherd/opa/archive";
import { findOpa } from "@drover/shepherd/opa/binary";
import {
  type SigningAlgorithm,
  type SigningKey,
  signatureProblem,
  signFiles,
  signingAlgorithms,
  type TrustedKey,
} from "@drover/shepherd/opa/signatures";
import { type Files, readTar, writeTar } from "@drover/shepherd/opa/tar";
import { afterAll, expect, test } from "@jest/globals";
import fc from "fast-check";

const folder = mkdtempSync(join(tmpdir(), "drover-archive-"));
afterAll(() => rmSync(folder, { recursive: true }));

function keysFor(algorithm: SigningAlgorithm, id = "k1"): { sign: SigningKey; trust: TrustedKey } {
  const pair = algorithm.startsWith("ES")
    ? generateKeyPairSync("ec", {
        namedCurve: { ES256: "P-256", ES384: "P-384", ES512: "P-521" }[algorithm as "ES256"],
      })
    : algorithm === "EdDSA"
      ? generateKeyPairSync("ed25519")
      : generateKeyPairSync("rsa", { modulusLength: 2048 });
  const privateKey = String(pair.privateKey.export({ type: "pkcs8", format: "pem" }));
  const publicKey = String(pair.publicKey.export({ type: "spki", format: "pem" }));
  return { sign: { id, algorithm, privateKey }, trust: { id, algorithm, publicKey } };
}

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

/** Nothing here is run: what is inside a module is the engine's business. */
const bundle: WholeBundle = {
  owner: "site:north",
  wasm: bytes("\0asm"),
  data: { drover: { constraints: { own: { i: { level: "deny", params: {} } } }, exemptions: [] } },
  policyDigest: "",
  dataDigest: "",
  revision: "r7",
  sources: [{ path: "own/rules/own.rego", text: "package drover.rules.own\n" }],
  vectors: undefined,
};
const es256 = keysFor("ES256");

test.each(signingAlgorithms)(
  "signed by %s: ours reads it, and the opa command accepts it",
  async (algorithm) => {
    const { sign, trust } = keysFor(algorithm);
    const packed = packBundle(bundle, sign);
    expect(readBundle(packed, { owner: bundle.owner, keys: [trust] })).toMatchObject({
      revision: "r7",
      data: bundle.data,
      sources: bundle.sources,
    });
    // opa's own check, without the module: this one is no WASM
    const files = new Map(
      [...readTar(gunzipSync(packed))].filter(([name]) => name !== "policy.wasm"),
    );
    const manifest = { roots: ["drover"], rego_version: 1 };
    files.set(".manifest", bytes(JSON.stringify(manifest)));
    files.delete(".signatures.json");
    files.set(".signatures.json", bytes(signFiles(files, sign)));
    writeFileSync(join(folder, "signed.tar.gz"), gzipSync(writeTar(files)));
    writeFileSync(join(folder, "key.pub"), trust.publicKey);
    const { path } = await findOpa();
    const check = () =>
      execFileSync(
        path,
        `build -b --verification-key key.pub --verification-key-id k1 --signing-alg ${algorithm} -o out.tar.gz signed.tar.gz`.split(
          " ",
        ),
        { cwd: folder, stdio: "pipe" },
      );
    expect(check).not.toThrow();
    files.set("data.json", bytes('{"drover":{}}'));
    writeFileSync(join(folder, "signed.tar.gz"), gzipSync(writeTar(files)));
    expect(check).toThrow("Command failed");
  },
);

test.each(["ES256", "RS256", "PS384", "EdDSA"] as const)(
  "signed by the opa command with %s: ours accepts it",
  async (algorithm) => {
    const { sign, trust } = keysFor(algorithm);
    writeFileSync(join(folder, "a.rego"), "package a\n\np := 1\n");
    writeFileSync(
      join(folder, "data.json"),
      '{"x": {"é": 1.0, "b": "<&>\\u2028", "a": [1e3, true, null]}}',
    );
    writeFileSync(join(folder, "private.pem"), sign.privateKey);
    const { path } = await findOpa();
    execFileSync(
      path,
      `build -b --signing-key private.pem --signing-alg ${algorithm} --verification-key-id k1 -o theirs.tar.gz --ignore *.tar.gz .`.split(
        " ",
      ),
      { cwd: folder, stdio: "pipe" },
    );
    const theirs = readTar(gunzipSync(execFileSync("cat", [join(folder, "theirs.tar.gz")])));
    expect(signatureProblem(theirs, [trust])).toBeUndefined();
  },
);

function refusal(
  packed: Uint8Array,
  keys: readonly TrustedKey[] = [es256.trust],
  owner = bundle.owner,
): string {
  try {
    readBundle(packed, { owner, keys });
  } catch (error) {
    if (isFault(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

/** The signed bundle with its files changed after signing. */
function tampered(change: (files: Map<string, Uint8Array<ArrayBuffer>>) => void): Uint8Array {
  const files = new Map(readTar(gunzipSync(packBundle(bundle, es256.sign))));
  change(files);
  return gzipSync(writeTar(files));
}

/** The same signature's parts with another header. */
function withHeader(header: object): (files: Map<string, Uint8Array<ArrayBuffer>>) => void {
  return (files) => {
    const written = JSON.parse(Buffer.from(files.get(".signatures.json") ?? []).toString()) as {
      signatures: [string];
    };
    const [, payload, signature] = written.signatures[0].split(".");
    const head = Buffer.from(JSON.stringify(header)).toString("base64url");
    files.set(
      ".signatures.json",
      bytes(JSON.stringify({ signatures: [`${head}.${payload}.${signature}`] })),
    );
  };
}

const edWithWrongId = keysFor("EdDSA", "other");

test.each<[string, () => string, RegExp]>([
  ["not signed", () => refusal(packBundle(bundle)), /^policy\.signature_invalid: .*not signed/],
  [
    "signed by nobody we trust",
    () => refusal(packBundle(bundle, edWithWrongId.sign)),
    /signed with the key other; trusted are k1/,
  ],
  [
    "another key of the same name",
    () => refusal(packBundle(bundle, keysFor("ES256").sign)),
    /does not verify/,
  ],
  [
    "a byte of the module changed",
    () => refusal(tampered((files) => files.set("policy.wasm", bytes("\0asn")))),
    /policy\.wasm is not as it was signed/,
  ],
  [
    "the data changed",
    () => refusal(tampered((files) => files.set("data.json", bytes("{}")))),
    /data\.json is not as it was signed/,
  ],
  [
    "the manifest changed",
    () => refusal(tampered((files) => files.set(".manifest", bytes('{"revision":"r8"}')))),
    /\.manifest is not as it was signed/,
  ],
  [
    "a file put in",
    () => refusal(tampered((files) => files.set("rules/more.rego", bytes("package x")))),
    /more\.rego was put in after signing/,
  ],
  [
    "a file taken out",
    () => refusal(tampered((files) => files.delete("own/rules/own.rego"))),
    /own\.rego was signed and is missing/,
  ],
  [
    "algorithm none",
    () => refusal(tampered(withHeader({ alg: "none", kid: "k1" }))),
    /signatures by none are not accepted/,
  ],
  [
    "HMAC with our public key",
    () => refusal(tampered(withHeader({ alg: "HS256", kid: "k1" }))),
    /signatures by HS256 are not accepted/,
  ],
  [
    "another algorithm than the key's",
    () => refusal(tampered(withHeader({ alg: "RS256", kid: "k1" }))),
    /signs by ES256, not RS256/,
  ],
  [
    "two signatures",
    () =>
      refusal(
        tampered((files) => files.set(".signatures.json", bytes('{"signatures":["a","b"]}'))),
      ),
    /exactly one signature/,
  ],
  ["no keys trusted", () => refusal(packBundle(bundle, es256.sign), []), /trusted are none/],
  [
    "another owner's bundle",
    () => refusal(packBundle({ ...bundle, owner: "operator" }, es256.sign)),
    /^policy\.bundle_invalid: .*built for operator/,
  ],
  ["no archive", () => refusal(bytes("hello")), /^policy\.bundle_invalid: .*not a bundle/],
  [
    "cut off",
    () => refusal(packBundle(bundle, es256.sign).subarray(0, 300)),
    /^policy\.bundle_invalid: .*not a bundle/,
  ],
])("refused before anything of it runs: %s", (_, told, problem) => {
  expect(told()).toMatch(problem);
});

/** Signed as it should be, but of other content. */
function signedWith(change: (files: Map<string, Uint8Array<ArrayBuffer>>) => void): Uint8Array {
  return tampered((files) => {
    files.delete(".signatures.json");
    change(files);
    files.set(".signatures.json", bytes(signFiles(files, es256.sign)));
  });
}

test.each<[string, () => string, RegExp]>([
  [
    "another contract",
    () =>
      refusal(
        signedWith((files) =>
          files.set(
            ".manifest",
            bytes('{"metadata":{"drover":{"contract":2,"owner":"site:north"}}}'),
          ),
        ),
      ),
    /^policy\.contract_unknown: .*speaks contract 2; this shepherd speaks 1/,
  ],
  [
    "no contract",
    () => refusal(signedWith((files) => files.set(".manifest", bytes("{}")))),
    /^policy\.contract_unknown: .*contract none/,
  ],
  [
    "a delta",
    () => refusal(signedWith((files) => files.set("patch.json", bytes("{}")))),
    /delta bundle/,
  ],
  [
    "no module",
    () => refusal(signedWith((files) => files.delete("policy.wasm"))),
    /holds no policy\.wasm/,
  ],
  [
    "data of another shape",
    () => refusal(signedWith((files) => files.set("data.json", bytes('{"drover":{"rules":{}}}')))),
    /^policy\.data_invalid/,
  ],
])("a genuine signature does not excuse %s", (_, told, problem) => {
  expect(told()).toMatch(problem);
});

test("an archive comes back as it was, and no prefix of one is taken for whole", () => {
  const file = fc.tuple(
    fc.stringMatching(/^[a-z]{1,8}(\/[a-z]{1,8}){0,3}\.[a-z]{1,4}$/),
    fc.uint8Array({ maxLength: 2_000 }),
  );
  fc.assert(
    fc.property(fc.array(file, { maxLength: 8 }), (list) => {
      const files: Files = new Map(list.map(([name, content]) => [name, new Uint8Array(content)]));
      const back = readTar(writeTar(files));
      expect(new Map(back)).toEqual(new Map(files));
    }),
    { seed: 7, numRuns: 60 },
  );
});

test.each([
  ["a way out", "../evil.rego", /leads out of the archive/],
  ["a name twice", "a.rego", /there twice/],
])("an archive with %s is refused", (_, name, problem) => {
  const one = writeTar(new Map([["a.rego", bytes("x")]])).subarray(0, 1024);
  const other = Buffer.from(writeTar(new Map([[name.replace("../", "xx/"), bytes("y")]])));
  if (name.startsWith("..")) other.write("..", 1);
  expect(() => readTar(Buffer.concat([one, other]))).toThrow(problem);
});
