/**
 * Finds the opa command: a fitting one on PATH, else the one that `make tools` built into the cache. Only compiling and
 * checking policies needs it; decisions run without. test/tools/build-tools.ts builds what is not found here.
 */
import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { Fault } from "#model/fault";

const run = promisify(execFile);

/** What test/tools/go.mod pins (a test compares them). */
export const pinnedOpaVersion = "1.20.2";
const leastMinor = 20;

export interface OpaBinary {
  readonly path: string;
  readonly version: string;
}

/** Where `make tools` puts programs of one version. */
export function toolsFolder(version: string): string {
  const cache = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  return join(cache, "drover", "tools", version);
}

let found: Promise<OpaBinary> | undefined;

/** Looks once a process. Fault `policy.no_compiler` when there is none. */
export async function findOpa(): Promise<OpaBinary> {
  found ??= locate();
  const binary = found;
  binary.catch(() => {
    found = undefined;
  });
  return binary;
}

async function locate(): Promise<OpaBinary> {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), toolsFolder(pinnedOpaVersion)];
  const unfit: string[] = [];
  for (const folder of folders.filter((item) => item !== "")) {
    const path = join(folder, "opa");
    const version = await versionOf(path);
    if (version === undefined) continue;
    if (fits(version)) return { path, version };
    unfit.push(`${path} is ${version}`);
  }
  throw new Fault("policy.no_compiler", { problem: unfit.join(", ") || "no opa on PATH" });
}

/** Rego v1, template strings and the measured WASM behaviour: from 1.20 on, not beyond 1. */
export function fits(version: string): boolean {
  const [major, minor] = version.split(".").map(Number);
  return major === 1 && minor !== undefined && minor >= leastMinor;
}

async function versionOf(path: string): Promise<string | undefined> {
  try {
    await access(path, constants.X_OK);
    const { stdout } = await run(path, ["version"], { timeout: 20_000 });
    return /^Version:\s*v?(\d+\.\d+\.\d+)/m.exec(stdout)?.[1];
  } catch {
    // not there, or not opa: the next folder may have one
    return undefined;
  }
}
