/**
 * The Rego of one bundle: our main, lib and rules, and the rules that an owner adds in a folder of their own. Refuses
 * what could replace the contract, and the one construct that compiles into a policy that fails open.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "#model/fault";
import type { Digest } from "#model/units";
import { checkSources, describeProblem, type SourceProblem } from "#opa/check-sources";

export interface RegoSource {
  /** Relative, `/` between parts: what opa's messages name. */
  readonly path: string;
  readonly text: string;
}

/** Our own Rego, beside the shepherd in the repository. */
export const libraryFolder = join(import.meta.dirname, "../../policies");

/**
 * Collects a bundle's Rego, sorted by path; tests are left out. `folder/rules` may add packages `drover.rules.<name>`.
 * Fault `policy.source_invalid` names file and line.
 */
export async function collectSources(bundle: {
  readonly owner: string;
  readonly folder: string;
}): Promise<readonly RegoSource[]> {
  const library = await regoBelow(libraryFolder, ["main", "lib", "rules"]);
  const added = await regoBelow(bundle.folder, ["rules"]);
  refuseProblems(bundle.owner, checkSources(library, added));
  const all = [...library, ...added.map((source) => ({ ...source, path: `own/${source.path}` }))];
  return all.toSorted((left, right) => (left.path < right.path ? -1 : 1));
}

/** Names the sources; changes when any path or text does. */
export function digestSources(sources: readonly RegoSource[], salt: string): Digest {
  const hash = createHash("sha256").update(salt);
  for (const { path, text } of sources) hash.update(`\0${path}\0${text.length}\0${text}`);
  return hash.digest("hex");
}

/** Problems that a message names; the rest are like them. */
const problemLimit = 5;

/** Fault `policy.source_invalid` with file, line and fix of each problem; nothing when there are none. */
export function refuseProblems(owner: string, problems: readonly SourceProblem[]): void {
  if (problems.length === 0) return;
  const told = problems.slice(0, problemLimit).map(describeProblem);
  const more = problems.length > problemLimit ? [`${problems.length - problemLimit} more`] : [];
  throw new Fault("policy.source_invalid", { owner, problem: [...told, ...more].join("\n") });
}

async function regoBelow(root: string, folders: readonly string[]): Promise<RegoSource[]> {
  const sources: RegoSource[] = [];
  for (const folder of folders) {
    const entries = await readdir(join(root, folder), { recursive: true }).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return [];
        throw error;
      },
    );
    for (const entry of entries.filter(
      (name) => name.endsWith(".rego") && !name.endsWith("_test.rego"),
    ))
      sources.push({
        path: `${folder}/${entry}`,
        text: await readFile(join(root, folder, entry), "utf8"),
      });
  }
  return sources;
}
