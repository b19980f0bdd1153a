/**
 * Rego to WASM with the opa command: strict check against the schemas of input and data and the allowed built-ins, then a build
 * without optimisation (any -O folds data that arrives at run time away). The result is cached by what went in.
 */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { Fault } from "#model/fault";
import { findOpa, type OpaBinary } from "#opa/binary";
import { restrictCapabilities } from "#opa/capabilities";
import { digestSources, libraryFolder, type RegoSource } from "#opa/sources";
import { readTar } from "#opa/tar";

const run = promisify(execFile);
const compilerTimeoutMs = 60_000;
/** Bumped when this file changes how it compiles. */
const recipe = "1";

/** Where compiled policies are kept; safe to delete. */
export function policyCacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "drover", "policies");
}

/**
 * The module of these sources, compiled or from the cache. Faults: `policy.source_invalid` with opa's own message
 * (file, line, problem), `policy.no_compiler` when it is not cached and there is no opa.
 */
export async function compileSources(
  owner: string,
  sources: readonly RegoSource[],
): Promise<Uint8Array<ArrayBuffer>> {
  const schemas = await readSchemas();
  const salt = [recipe, ...schemas.values()].join("");
  const cached = join(policyCacheFolder(), `${digestSources(sources, salt)}.wasm`);
  const known = await readFile(cached).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (known !== undefined) return new Uint8Array(known);
  const compiled = await inStaging(sources, schemas, async (folder) => {
    const opa = await findOpa();
    await prepare(opa, folder);
    const checked = "check --strict --schema schemas --capabilities capabilities.json rego";
    await opaOrRefuse(owner, opa, folder, checked.split(" "));
    const built = "build -b -t wasm --capabilities ../capabilities.json -o ../bundle.tar.gz .";
    await opaOrRefuse(owner, opa, join(folder, "rego"), built.split(" "));
    const files = readTar(gunzipSync(await readFile(join(folder, "bundle.tar.gz"))));
    const wasm = files.get("policy.wasm");
    if (wasm === undefined) throw new Error("opa built a bundle without policy.wasm");
    return wasm;
  });
  await mkdir(dirname(cached), { recursive: true });
  // several shepherds and tests may compile at once: whole files only, the last one wins with equal content
  const unfinished = `${cached}.${randomUUID()}`;
  await writeFile(unfinished, compiled);
  await rename(unfinished, cached);
  return compiled;
}

/** Those that policies/main/drover.rego names: the types of input and data for the check. */
async function readSchemas(): Promise<ReadonlyMap<string, string>> {
  const names = ["input.json", "constraints.json", "exemptions.json"];
  const texts = names.map((name) => readFile(join(libraryFolder, "schemas", name), "utf8"));
  return new Map((await Promise.all(texts)).map((text, n) => [names[n] ?? "", text]));
}

async function inStaging<T>(
  sources: readonly RegoSource[],
  schemas: ReadonlyMap<string, string>,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "drover-policy-"));
  try {
    await mkdir(join(folder, "schemas"));
    for (const [name, text] of schemas) await writeFile(join(folder, "schemas", name), text);
    for (const { path, text } of sources) {
      const file = join(folder, "rego", path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function prepare(opa: OpaBinary, folder: string): Promise<void> {
  const { stdout } = await run(opa.path, ["capabilities", "--current"], {
    maxBuffer: 8 << 20,
    timeout: compilerTimeoutMs,
  });
  await writeFile(join(folder, "capabilities.json"), restrictCapabilities(stdout));
}

async function opaOrRefuse(
  owner: string,
  opa: OpaBinary,
  cwd: string,
  args: readonly string[],
): Promise<void> {
  try {
    await run(opa.path, args, { cwd, timeout: compilerTimeoutMs, maxBuffer: 8 << 20 });
  } catch (cause) {
    const said = (cause as { stderr?: string; stdout?: string }).stderr || String(cause);
    throw new Fault("policy.source_invalid", { owner, problem: inTheOwnersWords(said) }, { cause });
  }
}

/** Paths as the owner knows them: below the bundle's folder, or below our own `policies/`. */
function inTheOwnersWords(said: string): string {
  return said
    .replace(/^error: /, "")
    .replaceAll(/(?<![\w/])(?:rego\/)?own\//g, "")
    .replaceAll(/(?<![\w/])rego\//g, "policies/")
    .trim();
}
