/**
 * Synthesizes a stack: bundles its main file with the constructs and bindings, and runs it in the current directory.
 *   node stacks/synth.ts <main.ts>        writes cdktf.out/ below the current directory, as every CDKTF app does
 * `cdktf` and `cdktn` are one library here: two copies would split its instanceof checks.
 */
import { mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const [main] = process.argv.slice(2);
if (main === undefined || main === "--help") {
  console.log(
    "usage: node stacks/synth.ts <main.ts>\nSynthesizes a CDKTF stack into cdktf.out/ of the current directory.",
  );
  process.exit(main === undefined ? 2 : 0);
}
const require = createRequire(import.meta.url);
const folder = join(import.meta.dirname, ".gen", "bundles");
mkdirSync(folder, { recursive: true });
const bundle = join(folder, `stack-${process.pid}.mjs`);
try {
  await build({
    entryPoints: [resolve(main)],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node22",
    logLevel: "error",
    alias: {
      cdktn: require.resolve("cdktf"),
      cdktf: require.resolve("cdktf"),
      "@drover/stacks": join(import.meta.dirname, "index.ts"),
    },
    external: [require.resolve("cdktf"), "constructs"],
  });
  await import(pathToFileURL(bundle).href);
} finally {
  rmSync(bundle, { force: true });
}
