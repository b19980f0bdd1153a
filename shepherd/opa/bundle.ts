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
import { compileSources } from "#opa/compile";
import { dataProblems } from "#opa/door";
import { collectSources } from "#opa/sources";
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
  const data = await readData(source);
  const sources = await collectSources(source);
  const wasm = await compileSources(source.owner, sources);
  const digests = {
    policyDigest: createHash("sha256").update(wasm).digest("hex"),
    dataDigest: digestOf(data),
  };
  const revision = revisionOf(digests);
  return { owner: source.owner, wasm, data, ...digests, revision, sources, vectors: undefined };
}

/** The data of a folder, in shape. Fault `policy.data_invalid` names the place. */
export async function readData(source: {
  readonly owner: string;
  readonly folder: string;
}): Promise<PolicyData> {
  const file = join(source.folder, "data.yaml");
  const refuse = (problem: string, cause?: unknown): Fault =>
    new Fault("policy.data_invalid", { owner: source.owner, problem }, { cause });
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw refuse(`${file} cannot be read`, error);
  });
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true });
  const broken = document.errors[0];
  if (broken !== undefined) throw refuse(`${file}: ${broken.message}`, broken);
  const data: unknown = document.toJS();
  const problems = dataProblems(data);
  if (problems.length > 0) throw refuse(`${file}: ${problems.join("; ")}`);
  return data as PolicyData;
}
