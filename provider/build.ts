/**
 * Bundles the provider into one executable script, `provider/dist/terraform-provider-drover_v<version>`: a shell line
 * that finds a Node, then the program. No run-time dependencies. `buildProvider()` for others, or run this file.
 */
import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { providerFileName } from "./plugin/address.ts";
import { launcher } from "./plugin/launcher.ts";

export const bundlePath = join(import.meta.dirname, "dist", providerFileName);

/** Writes the script and tells its size. `nodePath`: tried first, for a machine whose own Node is old. */
export async function buildProvider(
  options: { readonly outFile?: string; readonly nodePath?: string } = {},
): Promise<{ readonly path: string; readonly bytes: number }> {
  const path = options.outFile ?? bundlePath;
  const result = await build({
    entryPoints: [join(import.meta.dirname, "main.ts")],
    bundle: true,
    platform: "node",
    target: "node22",
    format: "cjs", // a file without a suffix is CommonJS to Node
    minify: true,
    supported: { "dynamic-import": false }, // becomes require: works however the script is loaded
    write: false,
    logLevel: "warning",
    legalComments: "none",
  });
  const [output] = result.outputFiles;
  if (output === undefined) throw new Error("esbuild wrote nothing");
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, launcher(options.nodePath) + output.text);
  chmodSync(path, 0o755);
  return { path, bytes: statSync(path).size };
}

if (import.meta.main) {
  // Built to be used on this machine, it remembers this Node; a release (--release) names no path of ours.
  const release = process.argv.includes("--release");
  const { path, bytes } = await buildProvider(release ? {} : { nodePath: process.execPath });
  console.log(`${path}: ${(bytes / 1024).toFixed(1)} KiB`);
}
