/**
 * OpenTofu for the tests: a fitting one on PATH, else the pinned one, built once from its Go module into the cache.
 * `node test/tools/opentofu.ts` builds what is missing (about four minutes).
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { toolsFolder } from "../../shepherd/opa/binary.ts";
import { buildGoProgram, type GoProgram } from "./go-module.ts";

const module = "github.com/opentofu/opentofu";
const pinned: GoProgram = {
  module,
  version: "1.11.5",
  sum: "h1:hgKyxSoQjjTKv6PPcVhFpuUjnajPlOWlrC331kRYWd0=",
  package: "./cmd/tofu",
  linkerFlags: `-X ${module}/version.dev=no`,
};
/** The tests are written for this minor version; another may behave differently. */
const wantedMinor = /^OpenTofu v1\.11\./;
const built = join(toolsFolder(`opentofu-${pinned.version}`), "tofu");

/** Path of the command; undefined when none was found or built. */
export function findTofu(): string | undefined {
  return ["tofu", built].find((command) => {
    const { status, stdout } = spawnSync(command, ["version"], {
      encoding: "utf8",
      env: { ...process.env, CHECKPOINT_DISABLE: "1" },
    });
    return status === 0 && wantedMinor.test(stdout);
  });
}

if (import.meta.main) {
  if (findTofu() === undefined) {
    process.stdout.write(
      `building OpenTofu ${pinned.version} (some four minutes on two cores, once)\n`,
    );
    buildGoProgram(pinned, built);
  }
  const found = findTofu();
  if (found === undefined) throw new Error(`what was built at ${built} does not run`);
  process.stdout.write(`OpenTofu (${found})\n`);
}
