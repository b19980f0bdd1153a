/**
 * OpenTofu for the tests: a fitting one on PATH, else the pinned one, built once from its Go module into the cache. It is
 * built inside its own module, since it replaces one of its dependencies and its go.sum verifies all of them; the module
 * itself is verified by the sum below. `node test/tools/opentofu.ts` builds what is missing (about four minutes).
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toolsFolder } from "../../shepherd/opa/binary.ts";

export const pinned = {
  version: "1.11.5",
  /** Of the module's files, as go.sum would have it. */
  sum: "h1:hgKyxSoQjjTKv6PPcVhFpuUjnajPlOWlrC331kRYWd0=",
} as const;
const modulePath = "github.com/opentofu/opentofu";
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

/** @throws Error in words for a person when Go or the module cannot be had. */
export function buildTofu(): void {
  if (spawnSync("go", ["version"]).status !== 0)
    throw new Error(
      `neither OpenTofu 1.11 nor Go was found. Install tofu ${pinned.version} on PATH, or Go >= 1.21 so that it can be built.`,
    );
  const go = (args: readonly string[], cwd: string) =>
    execFileSync("nice", ["-n", "10", "go", ...args], {
      cwd,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
      env: {
        ...process.env,
        CGO_ENABLED: "0",
        GOWORK: "off",
        GOFLAGS: "-mod=readonly -buildvcs=false",
        GONOSUMDB: modulePath, // verified below, also where no checksum database can be reached
      },
    });
  const fetched = JSON.parse(
    go(["mod", "download", "-json", `${modulePath}@v${pinned.version}`], tmpdir()),
  ) as { Dir: string; Sum: string };
  if (fetched.Sum !== pinned.sum)
    throw new Error(`the module is ${fetched.Sum}, pinned is ${pinned.sum}: not built`);
  mkdirSync(join(built, ".."), { recursive: true });
  // a half-written program must never look finished: build beside, then rename
  const unfinished = `${built}.${process.pid}`;
  try {
    const release = `-s -w -X ${modulePath}/version.dev=no`;
    go(["build", "-trimpath", "-ldflags", release, "-o", unfinished, "./cmd/tofu"], fetched.Dir);
    renameSync(unfinished, built);
  } finally {
    rmSync(unfinished, { force: true });
  }
}

if (import.meta.main) {
  if (findTofu() === undefined) {
    process.stdout.write(
      `building OpenTofu ${pinned.version} (some four minutes on two cores, once)\n`,
    );
    buildTofu();
  }
  const found = findTofu();
  if (found === undefined) throw new Error(`what was built at ${built} does not run`);
  process.stdout.write(`OpenTofu (${found})\n`);
}
