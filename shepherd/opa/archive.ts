/**
 * A bundle as a file: OPA's format (`bundle.tar.gz` with `.manifest`, `.signatures.json`, `policy.wasm`, `data.json` and
 * the Rego it was compiled from), with our vectors in it. Reading refuses what was changed, what nobody trusted signed,
 * and what speaks another contract, before anything of it runs.
 */
import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import { digestOf } from "#model/canonical";
import { Fault } from "#model/fault";
import type { Digest } from "#model/units";
import type { PolicyBundle } from "#opa/bundle";
import { dataProblems } from "#opa/door";
import {
  type SigningKey,
  signatureProblem,
  signaturesFile,
  signFiles,
  type TrustedKey,
} from "#opa/signatures";
import type { RegoSource } from "#opa/sources";
import { type Files, maxUnpackedBytes, readTar, writeTar } from "#opa/tar";
import type { VectorFile } from "#opa/vectors";
import type { PolicyData } from "#policy/data";
import { contractVersion } from "#policy/input";

/** A bundle with all that travels with it. */
export interface WholeBundle extends PolicyBundle {
  /** Named by whoever published it, else by its content. */
  readonly revision: string;
  /** What it was compiled from: the lines that findings come from. */
  readonly sources: readonly RegoSource[];
  /** Questions with the answers that native OPA gave when it was built. */
  readonly vectors: VectorFile | undefined;
}

const vectorsFile = "tests/vectors.json";
const wasmFile = "policy.wasm";
const entrypoints = [
  "drover/main/decision",
  "drover/main/plan_check",
  "drover/main/audit",
  "drover/main/self",
  "drover/main/roles",
  "system/log/mask",
];

interface Manifest {
  readonly revision?: unknown;
  readonly metadata?: {
    readonly drover?: { readonly contract?: unknown; readonly owner?: unknown };
  };
}

/** What the content is called when nobody gave it a name: the same content, the same revision. */
export function revisionOf(bundle: Pick<PolicyBundle, "policyDigest" | "dataDigest">): string {
  return digestOf([bundle.policyDigest, bundle.dataDigest]).slice(0, 12);
}

/** The bytes of `bundle.tar.gz`; signed when there is a key. Equal bundles give equal bytes, but for ECDSA and PSS signatures. */
export function packBundle(bundle: WholeBundle, key?: SigningKey): Uint8Array<ArrayBuffer> {
  const manifest = {
    revision: bundle.revision,
    roots: ["drover", "system/log"],
    rego_version: 1,
    wasm: entrypoints.map((entrypoint) => ({ entrypoint, module: `/${wasmFile}` })),
    metadata: { drover: { contract: contractVersion, owner: bundle.owner } },
  };
  const files = new Map<string, Uint8Array<ArrayBuffer>>([
    [".manifest", bytesOf(JSON.stringify(manifest))],
    ["data.json", bytesOf(JSON.stringify(bundle.data))],
    [wasmFile, bundle.wasm],
    ...bundle.sources.map(({ path, text }): [string, Uint8Array<ArrayBuffer>] => [
      path,
      bytesOf(text),
    ]),
  ]);
  if (bundle.vectors !== undefined) files.set(vectorsFile, bytesOf(JSON.stringify(bundle.vectors)));
  if (key !== undefined) files.set(signaturesFile, bytesOf(signFiles(files, key)));
  const packed = gzipSync(writeTar(files));
  return new Uint8Array(packed);
}

/**
 * Reads and checks a bundle of this owner. Without keys (`"unsigned"`) only what never speaks for an owner may be read:
 * a candidate that is tried. Faults `policy.signature_invalid`, `policy.contract_unknown`, `policy.bundle_invalid`,
 * `policy.data_invalid`.
 */
export function readBundle(
  packed: Uint8Array,
  { owner, keys }: { readonly owner: string; readonly keys: readonly TrustedKey[] | "unsigned" },
): WholeBundle {
  const files = unpack(packed, owner);
  if (keys !== "unsigned") {
    const problem = signatureProblem(files, keys);
    if (problem !== undefined) throw new Fault("policy.signature_invalid", { owner, problem });
  }
  const refuse = (problem: string): Fault => new Fault("policy.bundle_invalid", { owner, problem });
  const manifest = json(files, ".manifest", refuse) as Manifest;
  checkManifest(manifest, owner);
  if (files.has("patch.json")) throw refuse("it is a delta bundle, which cannot be signed");
  const wasm = files.get(wasmFile);
  if (wasm === undefined) throw refuse(`it holds no ${wasmFile}`);
  const data = json(files, "data.json", refuse);
  const problems = dataProblems(data);
  if (problems.length > 0)
    throw new Fault("policy.data_invalid", { owner, problem: `data.json: ${problems.join("; ")}` });
  const digests = {
    policyDigest: createHash("sha256").update(wasm).digest("hex") as Digest,
    dataDigest: digestOf(data),
  };
  const revision = typeof manifest.revision === "string" ? manifest.revision : "";
  return {
    owner,
    wasm,
    data: data as PolicyData,
    ...digests,
    revision: revision === "" ? revisionOf(digests) : revision,
    sources: [...files]
      .filter(([name]) => name.endsWith(".rego"))
      .map(([path, content]) => ({ path, text: Buffer.from(content).toString() })),
    vectors: files.has(vectorsFile) ? (json(files, vectorsFile, refuse) as VectorFile) : undefined,
  };
}

function checkManifest({ metadata }: Manifest, owner: string): void {
  const contract = metadata?.drover?.contract;
  if (contract !== contractVersion)
    throw new Fault("policy.contract_unknown", {
      owner,
      found: contract ?? "none",
      expected: contractVersion,
    });
  const builtFor = metadata?.drover?.owner;
  if (builtFor !== owner)
    throw new Fault("policy.bundle_invalid", {
      owner,
      problem: `it was built for ${String(builtFor)}`,
    });
}

function unpack(packed: Uint8Array, owner: string): Files {
  try {
    return readTar(gunzipSync(packed, { maxOutputLength: maxUnpackedBytes }));
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault(
      "policy.bundle_invalid",
      { owner, problem: `not a bundle: ${problem}` },
      { cause },
    );
  }
}

function json(files: Files, name: string, refuse: (problem: string) => Fault): unknown {
  const content = files.get(name);
  if (content === undefined) throw refuse(`it holds no ${name}`);
  try {
    return JSON.parse(Buffer.from(content).toString());
  } catch (error) {
    throw refuse(`${name} is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text));
}
