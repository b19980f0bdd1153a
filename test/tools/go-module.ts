/**
 * Builds a program inside its own Go module, as its authors do: its go.mod may replace dependencies, and its go.sum
 * verifies all of them; the module itself is verified by the sum that is pinned here. The result goes into the cache.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";

export interface GoProgram {
  readonly module: string;
  readonly version: string;
  /** Of the module's files, as go.sum would have it. */
  readonly sum: string;
  /** Below the module: `./cmd/tofu`. */
  readonly package: string;
  readonly linkerFlags?: string;
}

/** @throws Error in words for a person when Go or the module cannot be had. */
export function buildGoProgram(program: GoProgram, outFile: string): void {
  const { module, version, sum } = program;
  if (spawnSync("go", ["version"]).status !== 0)
    throw new Error(`Go is missing: install Go >= 1.21, so that ${module} ${version} can be built`);
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
        GONOSUMDB: module, // verified below, also where no checksum database can be reached
      },
    });
  const fetched = JSON.parse(
    go(["mod", "download", "-json", `${module}@v${version}`], tmpdir()),
  ) as {
    Dir: string;
    Sum: string;
  };
  if (fetched.Sum !== sum)
    throw new Error(`${module} ${version} is ${fetched.Sum}, pinned is ${sum}: not built`);
  mkdirSync(dirname(outFile), { recursive: true });
  // a half-written program must never look finished: build beside, then rename
  const unfinished = `${outFile}.${process.pid}`;
  const flags = `-s -w ${program.linkerFlags ?? ""}`.trim();
  try {
    go(["build", "-trimpath", "-ldflags", flags, "-o", unfinished, program.package], fetched.Dir);
    renameSync(unfinished, outFile);
  } finally {
    rmSync(unfinished, { force: true });
  }
}
