/**
 * Signatures of bundles, as OPA makes and checks them: `.signatures.json` holds one JWT whose payload names every file
 * with its hash. Asymmetric algorithms only: whoever can check a bundle must not be able to make one. Pure but for
 * node:crypto. Source: OPA's bundle signing; compared with the opa command in the tests.
 */
import {
  constants,
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import type { Files } from "#opa/tar";

export const signaturesFile = ".signatures.json";

interface Algorithm {
  readonly hash: string | null;
  readonly keyType: "ec" | "ed25519" | "rsa";
  readonly curve?: string;
  readonly pss?: true;
}
const algorithms = {
  ES256: { hash: "sha256", keyType: "ec", curve: "prime256v1" },
  ES384: { hash: "sha384", keyType: "ec", curve: "secp384r1" },
  ES512: { hash: "sha512", keyType: "ec", curve: "secp521r1" },
  EdDSA: { hash: null, keyType: "ed25519" },
  RS256: { hash: "sha256", keyType: "rsa" },
  RS384: { hash: "sha384", keyType: "rsa" },
  RS512: { hash: "sha512", keyType: "rsa" },
  PS256: { hash: "sha256", keyType: "rsa", pss: true },
  PS384: { hash: "sha384", keyType: "rsa", pss: true },
  PS512: { hash: "sha512", keyType: "rsa", pss: true },
} as const satisfies Record<string, Algorithm>;
export type SigningAlgorithm = keyof typeof algorithms;
export const signingAlgorithms = Object.keys(algorithms) as readonly SigningAlgorithm[];
/** Shorter RSA keys can be factored by whoever has the means. */
const minRsaBits = 2048;

const fileHashes: Readonly<Record<string, string>> = {
  "SHA-256": "sha256",
  "SHA-384": "sha384",
  "SHA-512": "sha512",
  "SHA-512-256": "sha512-256",
};

/** A key that an owner's bundles may be signed with. */
export interface TrustedKey {
  readonly id: string;
  readonly algorithm: SigningAlgorithm;
  /** PEM of the public key. */
  readonly publicKey: string;
}

export interface SigningKey {
  readonly id: string;
  readonly algorithm: SigningAlgorithm;
  /** PEM of the private key. */
  readonly privateKey: string;
}

/** The text of `.signatures.json` for these files. Throws Error when the key does not fit its algorithm. */
export function signFiles(files: Files, { id, algorithm, privateKey }: SigningKey): string {
  const key = createPrivateKey(privateKey);
  const misfit = keyProblem(algorithm, key);
  if (misfit !== undefined) throw new Error(misfit);
  const claims = {
    files: [...files].map(([name, content]) => ({
      name,
      hash: hashOf(name, content, "sha256"),
      algorithm: "SHA-256",
    })),
    keyid: id,
  };
  const signed = [{ alg: algorithm, kid: id, typ: "JWT" }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  const signature = sign(algorithms[algorithm].hash, Buffer.from(signed), options(algorithm, key));
  return `${JSON.stringify({ signatures: [`${signed}.${signature.toString("base64url")}`] })}\n`;
}

/** Why the files are not what the owner of one of these keys signed; undefined when they are. Never throws. */
export function signatureProblem(files: Files, keys: readonly TrustedKey[]): string | undefined {
  const written = files.get(signaturesFile);
  if (written === undefined) return "it is not signed (there is no .signatures.json)";
  try {
    const { signatures } = JSON.parse(Buffer.from(written).toString()) as { signatures?: unknown };
    if (!Array.isArray(signatures) || signatures.length !== 1 || typeof signatures[0] !== "string")
      return ".signatures.json does not hold exactly one signature";
    return tokenProblem(signatures[0], files, keys);
  } catch (error) {
    return `.signatures.json cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function tokenProblem(
  token: string,
  files: Files,
  keys: readonly TrustedKey[],
): string | undefined {
  const [head = "", payload = "", signature = "", ...rest] = token.split(".");
  if (rest.length > 0 || signature === "") return "the signature is not a JWT";
  const header = decode(head);
  const claims = decode(payload);
  const { alg } = header;
  if (typeof alg !== "string" || !(alg in algorithms))
    return `signatures by ${String(alg)} are not accepted; use one of ${signingAlgorithms.join(", ")}`;
  const id = header["kid"] ?? claims["keyid"];
  const trusted = keys.find((key) => key.id === id);
  if (trusted === undefined)
    return `it is signed with the key ${String(id)}; trusted are ${keys.map((key) => key.id).join(", ") || "none"}`;
  // an attacker must not choose the algorithm that our key is used with
  if (trusted.algorithm !== alg)
    return `the key ${trusted.id} signs by ${trusted.algorithm}, not ${alg}`;
  const key = createPublicKey(trusted.publicKey);
  const misfit = keyProblem(trusted.algorithm, key);
  if (misfit !== undefined) return misfit;
  const isGenuine = verify(
    algorithms[trusted.algorithm].hash,
    Buffer.from(`${head}.${payload}`),
    options(trusted.algorithm, key),
    Buffer.from(signature, "base64url"),
  );
  return isGenuine ? filesProblem(claims["files"], files) : "the signature does not verify";
}

/** Every file is signed as it is, and every signed file is there. */
function filesProblem(claimed: unknown, files: Files): string | undefined {
  if (!Array.isArray(claimed)) return "the signature names no files";
  const left = new Set([...files.keys()].filter((name) => name !== signaturesFile));
  for (const entry of claimed as { name?: unknown; hash?: unknown; algorithm?: unknown }[]) {
    const name = String(entry.name).replace(/^\/+/, "");
    const content = files.get(name);
    if (content === undefined || !left.delete(name)) return `${name} was signed and is missing`;
    const hash = fileHashes[String(entry.algorithm)];
    if (hash === undefined) return `${name}: hashes by ${String(entry.algorithm)} are not accepted`;
    if (hashOf(name, content, hash) !== entry.hash) return `${name} is not as it was signed`;
  }
  const [unsigned] = left;
  return unsigned === undefined ? undefined : `${unsigned} was put in after signing`;
}

function keyProblem(algorithm: SigningAlgorithm, key: KeyObject): string | undefined {
  const wanted: Algorithm = algorithms[algorithm];
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type !== wanted.keyType)
    return `${algorithm} needs a key of type ${wanted.keyType}, not ${type}`;
  if (wanted.curve !== undefined && details?.namedCurve !== wanted.curve)
    return `${algorithm} needs the curve ${wanted.curve}, not ${details?.namedCurve}`;
  if (type === "rsa" && (details?.modulusLength ?? 0) < minRsaBits)
    return `RSA keys need at least ${minRsaBits} bits`;
  return undefined;
}

function options(algorithm: SigningAlgorithm, key: KeyObject) {
  const wanted: Algorithm = algorithms[algorithm];
  if (wanted.keyType === "ec") return { key, dsaEncoding: "ieee-p1363" as const };
  if (wanted.pss === undefined) return { key };
  return {
    key,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  };
}

function decode(part: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;
}

/** Of the bytes; of a structured file its meaning, so that formatting does not count. */
function hashOf(name: string, content: Uint8Array, hash: string): string {
  const base = name.split("/").at(-1);
  const isStructured = base === "data.json" || base === ".manifest";
  const hashed = isStructured ? goJson(parseExact(Buffer.from(content).toString())) : content;
  return createHash(hash).update(hashed).digest("hex");
}

/** Numbers keep the digits that they were written with: 1.0 is not 1 to a hash. */
function parseExact(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) =>
    typeof value === "number" && context?.source !== undefined
      ? new ExactNumber(context.source)
      : value,
  );
}

class ExactNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Compact JSON as Go writes it: keys sorted by bytes, the two line separators escaped. */
function goJson(value: unknown): string {
  if (value instanceof ExactNumber) return value.text;
  if (Array.isArray(value)) return `[${value.map(goJson).join(",")}]`;
  if (typeof value !== "object" || value === null) {
    return JSON.stringify(value).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  }
  const fields = Object.entries(value)
    .toSorted(([left], [right]) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
    .map(([key, item]) => `${goJson(key)}:${goJson(item)}`);
  return `{${fields.join(",")}}`;
}
