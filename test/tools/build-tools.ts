/**
 * `make tools`: finds the programs that are Go modules, or builds them as test/tools/go.mod pins them into the cache
 * (${XDG_CACHE_HOME:-~/.cache}/drover/tools/<version>/). Also says whether a fitting Terraform or OpenTofu is there.
 * Does nothing when all is found.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isFault } from "../../shepherd/model/fault.ts";
import { findOpa, pinnedOpaVersion, toolsFolder } from "../../shepherd/opa/binary.ts";

const goModule = import.meta.dirname;

function fail(message: string): never {
  process.stderr.write(`drover: ${message}\n`);
  process.exit(1);
}

/** First version number that the command prints; undefined when it is not there. */
function versionOf(command: string, args: readonly string[]): string | undefined {
  const result = spawnSync(command, args, { encoding: "utf8" });
  return result.status === 0 ? /(\d+)\.(\d+)(\.\d+)?/.exec(result.stdout)?.[0] : undefined;
}

function atLeast(version: string, least: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > least[0] || (major === least[0] && minor >= least[1]);
}

/** `unfit` says which opa was found and is too old. */
function buildOpa(unfit: string): void {
  const go = versionOf("go", ["version"]);
  if (go === undefined)
    fail(
      `neither opa >= 1.20 nor Go was found (${unfit}). Install opa ${pinnedOpaVersion} on PATH, or Go >= 1.21 so that drover can build it.`,
    );
  if (!atLeast(go, [1, 21]))
    fail(
      `Go ${go} is too old to build opa; install Go >= 1.21, or opa ${pinnedOpaVersion} on PATH.`,
    );
  const folder = toolsFolder(pinnedOpaVersion);
  mkdirSync(folder, { recursive: true });
  process.stdout.write(`building opa ${pinnedOpaVersion} with Go ${go} (a minute or two, once)\n`);
  // a half-written program must never look finished: build beside, then rename
  const unfinished = join(folder, `opa.${process.pid}`);
  try {
    execFileSync(
      "go",
      ["build", "-trimpath", "-o", unfinished, "github.com/open-policy-agent/opa"],
      {
        cwd: goModule,
        stdio: "inherit",
        env: {
          ...process.env,
          CGO_ENABLED: "0",
          GOFLAGS: "-mod=readonly -buildvcs=false",
          GOWORK: "off",
        },
      },
    );
    renameSync(unfinished, join(folder, "opa"));
  } catch (error) {
    rmSync(unfinished, { force: true });
    fail(`opa could not be built: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function ensureOpa(): Promise<void> {
  try {
    await findOpa();
  } catch (error) {
    if (!isFault(error, "policy.no_compiler")) throw error;
    buildOpa(String(error.details["problem"]));
  }
  const opa = await findOpa();
  process.stdout.write(`opa ${opa.version} (${opa.path})\n`);
}

function checkTerraform(): void {
  const seen: string[] = [];
  for (const command of ["terraform", "tofu"]) {
    const version = versionOf(command, ["version"]);
    if (version === undefined) continue;
    if (atLeast(version, [1, 11])) {
      process.stdout.write(`${command} ${version}\n`);
      return;
    }
    seen.push(`${command} ${version} is too old`);
  }
  fail(
    `Terraform >= 1.11 or OpenTofu >= 1.11 is needed on PATH (${seen.join(", ") || "neither was found"}).`,
  );
}

await ensureOpa();
checkTerraform();
