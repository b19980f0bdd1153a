/**
 * Compiles every bundle that ships with drover into the cache and loads it once, as the shepherd will: part of
 * `make build`, so that a mistake in Rego or data shows there, and no shepherd needs opa to start.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../shepherd/model/fault.ts";
import type { WholeBundle } from "../../shepherd/opa/archive.ts";
import { buildBundle } from "../../shepherd/opa/bundle.ts";
import { loadPolicy } from "../../shepherd/opa/engine.ts";
import { libraryFolder } from "../../shepherd/opa/sources.ts";
import { proveVectors, readVectors } from "../../shepherd/opa/vectors.ts";

/** Throws the Fault of the first bundle that is refused. */
export async function buildPolicies(): Promise<void> {
  for (const name of readdirSync(join(libraryFolder, "data")).toSorted()) {
    const folder = join(libraryFolder, "data", name);
    const bundle = await buildBundle({ owner: name, folder });
    const engine = await loadPolicy(bundle);
    await engine.close();
    const [policy, data] = [bundle.policyDigest.slice(0, 12), bundle.dataDigest.slice(0, 12)];
    process.stdout.write(`policy ${name}: ${policy}, data ${data}\n`);
    // the rules are the same in every bundle: once is enough
    if (name === "operator") await prove(bundle, folder);
  }
}

/** Native OPA and our host must say the same to every vector. Fault `policy.vectors_failed`. */
async function prove(bundle: WholeBundle, folder: string): Promise<void> {
  const { file, problems } = await proveVectors(bundle, bundle.sources, await readVectors(folder));
  const vectors = file.vectors.length;
  const [first] = problems;
  if (first !== undefined)
    throw new Fault("policy.vectors_failed", {
      owner: bundle.owner,
      failed: problems.length,
      vectors,
      problem: `${first.name}: ${first.problem}`,
    });
  process.stdout.write(`${vectors} vectors: native OPA and this host agree\n`);
}

if (import.meta.main) await buildPolicies();
