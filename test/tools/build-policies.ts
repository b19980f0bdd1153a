/**
 * Compiles every bundle that ships with drover into the cache and loads it once, as the shepherd will: part of
 * `make build`, so that a mistake in Rego or data shows there, and no shepherd needs opa to start.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { buildBundle } from "../../shepherd/opa/bundle.ts";
import { loadPolicy } from "../../shepherd/opa/engine.ts";
import { libraryFolder } from "../../shepherd/opa/sources.ts";

/** Throws the Fault of the first bundle that is refused. */
export async function buildPolicies(): Promise<void> {
  for (const name of readdirSync(join(libraryFolder, "data")).toSorted()) {
    const bundle = await buildBundle({ owner: name, folder: join(libraryFolder, "data", name) });
    const engine = await loadPolicy(bundle);
    await engine.close();
    const [policy, data] = [bundle.policyDigest.slice(0, 12), bundle.dataDigest.slice(0, 12)];
    process.stdout.write(`policy ${name}: ${policy}, data ${data}\n`);
  }
}

if (import.meta.main) await buildPolicies();
