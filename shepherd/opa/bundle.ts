/**
 * One owner's policy, ready to run: the compiled module and the checked data, each with its digest.
 * A folder holds `data.yaml` (constraints and exemptions) and may hold `rules/` with Rego of its own.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { digestOf } from "#model/canonical";
import { Fault } from "#model/fault";
import type { Digest } from "#model/units";
import { revisionOf, type WholeBundle } from "#opa/archive";
import { checkData } from "#opa/check-data";
import { describeProblem } from "#opa/check-sources";
import { compileSources } from "#opa/compile";
import { collectSources, type RegoSource } from "#opa/sources";
import type { PolicyData } from "#policy/data";

export interface PolicyBundle {
  /** `operator`, `site:north`, `owner:alice`. */
  readonly owner: string;
  readonly wasm: Uint8Array<ArrayBuffer>;
  readonly data: PolicyData;
  readonly policyDigest: Digest;
  readonly dataDigest: Digest;
}

/**
 * Reads, checks and compiles a folder. Faults: `policy.source_invalid`, `policy.data_invalid`, `policy.no_compiler`.
 * Parameters of instances are checked against their rules when the bundle is loaded (engine.ts).
 */
export async function buildBundle(source: {
  readonly owner: string;
  readonly folder: string;
}): Promise<WholeBundle> {
  const sources = await collectSources(source);
  const data = await readData(source, sources);
  const wasm = await compileSources(source.owner, sources);
  const digests = {
    policyDigest: createHash("sha256").update(wasm).digest("hex"),
    dataDigest: digestOf(data),
  };
  const revision = revisionOf(digests);
  return { owner: source.owner, wasm, data, ...digests, revision, sources, vectors: undefined };
}

/** The data of a folder, checked against the rules of these sources. Fault `policy.data_invalid` names line and instance. */
export async function readData(
  source: { readonly owner: string; readonly folder: string },
  sources: readonly RegoSource[],
): Promise<PolicyData> {
  const path = join(source.folder, "data.yaml");
  const refuse = (problem: string, cause?: unknown): Fault =>
    new Fault("policy.data_invalid", { owner: source.owner, problem }, { cause });
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw refuse(`${path} cannot be read`, error);
  });
  const problems = checkData({ file: "data.yaml", text }, sources);
  if (problems.length > 0) throw refuse(problems.map(describeProblem).join("\n"));
  return parseDocument(text).toJS() as PolicyData; // its shape was just checked
}
