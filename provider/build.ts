/**
 * Bundles the provider into one executable script, `provider/dist/terraform-provider-drover_v<version>`: a shell line
 * that finds a Node, then the program. No run-time dependencies. `buildProvider()` for others, or run this file.
 */
import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { build } from "esbuild";
import { providerFileName } from "./plugin/address.ts";
import { launcher } from "./plugin/launcher.ts";

export const bundlePath = join(import.meta.dirname, "dist", providerFileName);

/**
 * Writes the script and tells its sizes, on disk and unpacked. `nodePath`: tried first, for a machine whose own Node is old. `entryPoint`: the
 * program of another provider that is built on the same protocol.
 */
export async function buildProvider(
  options: {
    readonly outFile?: string;
    readonly nodePath?: string;
    readonly entryPoint?: string;
  } = {},
): Promise<{
  readonly path: string;
  readonly bytes: number;
  readonly programBytes: number;
  /** What it requires at run time: modules of Node, and nothing else. */
  readonly requires: readonly string[];
}> {
  const path = options.outFile ?? bundlePath;
  const result = await build({
    entryPoints: [options.entryPoint ?? join(import.meta.dirname, "main.ts")],
    bundle: true,
    platform: "node",
    target: "node22",
    format: "cjs", // a file without a suffix is CommonJS to Node
    minify: true,
    charset: "ascii",
    supported: { "dynamic-import": false }, // becomes require: works however the script is loaded
    write: false,
    metafile: true,
    logLevel: "warning",
    legalComments: "none",
  });
  const [output] = result.outputFiles;
  if (output === undefined) throw new Error("esbuild wrote nothing");
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, launcher(options.nodePath) + packed(output.text));
  chmodSync(path, 0o755);
  const imports = Object.values(result.metafile.outputs).flatMap((one) => one.imports);
  return {
    path,
    bytes: statSync(path).size,
    programBytes: Buffer.byteLength(output.text),
    requires: imports.map((one) => one.path),
  };
}

/**
 * The program as text that unpacks itself: less than half of the size, which Terraform copies and hashes at every
 * command, for a millisecond at start (inflating is faster than brotli, and one-byte text faster than UTF-8; esbuild
 * writes ASCII). The lines of a stack are those of the unpacked program.
 */
function packed(program: string): string {
  const data = deflateRawSync(program, { level: 9 }).toString("base64");
  const unpacked = `require("zlib").inflateRawSync(Buffer.from("${data}","base64")).latin1Slice()`;
  return `module._compile(${unpacked},__filename);\n`;
}

if (import.meta.main) {
  // Built to be used on this machine, it remembers this Node; a release (--release) names no path of ours.
  const release = process.argv.includes("--release");
  const built = await buildProvider(release ? {} : { nodePath: process.execPath });
  const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;
  console.log(`${built.path}: ${kib(built.bytes)} (${kib(built.programBytes)} unpacked)`);
}
