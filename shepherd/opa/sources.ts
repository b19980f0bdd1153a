/**
 * The Rego of one bundle: our main, lib and rules, and the rules that an owner adds in a folder of their own. Refuses
 * what could replace the contract, and the one construct that compiles into a policy that fails open.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "#model/fault";
import type { Digest } from "#model/units";

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
  const packages = new Set(library.map(packageOf));
  for (const source of added) {
    const refuse = (problem: string): never => {
      throw new Fault("policy.source_invalid", {
        owner: bundle.owner,
        problem: `${source.path}: ${problem}`,
      });
    };
    const name = packageOf(source);
    if (!/^drover\.rules\.[a-z][a-z0-9_]*$/.test(name))
      refuse(`an owner's rule is a package drover.rules.<name>, this is "${name}"`);
    if (packages.has(name)) refuse(`${name} is a rule of drover's own; choose another name`);
  }
  const danger = [...library, ...added].flatMap(dangerousNegations);
  if (danger[0] !== undefined)
    throw new Fault("policy.source_invalid", { owner: bundle.owner, problem: danger[0] });
  const all = [...library, ...added.map((source) => ({ ...source, path: `own/${source.path}` }))];
  return all.toSorted((left, right) => (left.path < right.path ? -1 : 1));
}

/** Names the sources; changes when any path or text does. */
export function digestSources(sources: readonly RegoSource[], salt: string): Digest {
  const hash = createHash("sha256").update(salt);
  for (const { path, text } of sources) hash.update(`\0${path}\0${text.length}\0${text}`);
  return hash.digest("hex");
}

/**
 * Places with an inline `not` over data with a variable part, imported names included: OPA 1.20.2 miscompiles it for
 * WASM so that an absent value passes. Bind the value first, or iterate.
 */
export function dangerousNegations(source: RegoSource): readonly string[] {
  const code = source.text.replace(/#.*$/gm, "");
  const imported = [...code.matchAll(/^import\s+data\.([\w.]+)(?:\s+as\s+(\w+))?/gm)].map(
    ([, path = "", alias]) => alias ?? path.split(".").at(-1) ?? "",
  );
  const roots = ["data", ...imported].join("|");
  const negation = new RegExp(`\\bnot\\s+(?:${roots})(?:\\.\\w+|\\["[^"]*"\\])*\\[(?!")`, "g");
  return [...code.matchAll(negation)].map(({ index }) => {
    const line = code.slice(0, index).split("\n").length;
    return `${source.path}:${line}: inline \`not\` over a dynamic data path; bind the value first, because it compiles into a rule that fails open`;
  });
}

function packageOf(source: RegoSource): string {
  return /^package\s+([\w.]+)/m.exec(source.text)?.[1] ?? "";
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
