/**
 * Installs the provider for a user's own Terraform and OpenTofu: into the implied filesystem mirror below the home
 * folder, where both look without any configuration. The script remembers this checkout's Node, in case the system's
 * own is too old.
 */
import { mkdirSync, rmSync } from "node:fs";
import { arch, homedir } from "node:os";
import { join } from "node:path";
import { buildProvider } from "./build.ts";
import { providerAddress, providerFileName, providerVersion } from "./plugin/address.ts";

/** Terraform's name of this platform: `linux_amd64`. */
export function platformName(): string {
  const architecture = { x64: "amd64", arm64: "arm64" }[arch() as string] ?? arch();
  return `${process.platform}_${architecture}`;
}

/** Lays the provider out as a filesystem mirror wants it; returns the script's path. */
export async function installProvider(mirror: string): Promise<string> {
  const folder = join(mirror, providerAddress, providerVersion, platformName());
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const outFile = join(folder, providerFileName);
  await buildProvider({ outFile, nodePath: process.execPath });
  return outFile;
}

if (import.meta.main) {
  const path = await installProvider(join(homedir(), ".terraform.d", "plugins"));
  console.log(`Installed ${path}`);
  console.log(`Use it, then run terraform init:
  terraform {
    required_providers {
      drover = { source = "${providerAddress}" }
    }
  }`);
  console.log(
    "After a rebuild of the same version, delete .terraform.lock.hcl before terraform init.",
  );
}
