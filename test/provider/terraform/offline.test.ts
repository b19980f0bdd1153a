/** The installed provider under the real Terraform, without a shepherd: schema, validation, plan, a clear refusal. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installProvider, platformName } from "@drover/provider/install";
import {
  providerAddress,
  providerFileName,
  providerVersion,
} from "@drover/provider/plugin/address";
import { providerSchemaJson } from "@drover/provider/schema-json";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { findTofu } from "../../tools/opentofu.ts";

const head = `terraform {
  required_providers {
    drover = { source = "${providerAddress}" }
  }
}
provider "drover" {
  endpoint = "unix:/nowhere/shepherd.sock"
}
`;
const providerFile = join(providerAddress, providerVersion, platformName(), providerFileName);
let directory = "";

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "drover-terraform-"));
  await installProvider(join(directory, "mirror"));
  const mirror = JSON.stringify(join(directory, "mirror"));
  writeFileSync(
    join(directory, "cli.tfrc"),
    `provider_installation {\n  filesystem_mirror {\n    path = ${mirror}\n  }\n}\n`,
  );
  writeFileSync(join(directory, "main.tf"), head);
  expect(terraform("init").stderr).toBe("");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function terraform(...args: readonly string[]) {
  return terraformWith({}, ...args);
}
function terraformWith(extra: Record<string, string>, ...args: readonly string[]) {
  return runWith("terraform", extra, ...args);
}
function runWith(binary: string, extra: Record<string, string>, ...args: readonly string[]) {
  return spawnSync(binary, [...args], {
    cwd: directory,
    encoding: "utf8",
    env: {
      ...process.env,
      TF_CLI_CONFIG_FILE: join(directory, "cli.tfrc"),
      CHECKPOINT_DISABLE: "1",
      TF_IN_AUTOMATION: "1",
      TF_CLI_ARGS: "-no-color",
      ...extra,
    },
  });
}
function write(configuration: string): void {
  writeFileSync(join(directory, "main.tf"), head + configuration);
}

test("the schema that bindings are generated from is the one that Terraform sees", () => {
  const seen = JSON.parse(terraform("providers", "schema", "-json").stdout);
  const ours = JSON.parse(JSON.stringify(providerSchemaJson()));
  const [block, said] = [ours, seen].map((schema) => schema.provider_schemas[providerAddress]);
  expect(said.resource_schemas).toEqual(block.resource_schemas);
  expect(said.data_source_schemas).toEqual(block.data_source_schemas);
  expect(said.functions).toEqual(block.functions);
  expect(said.provider.block.attributes).toEqual(block.provider.block.attributes);
});

test.each([
  [
    "an envelope that leaves out its baseline",
    "vcpus = 4\nadaptation = { vcpus = { min = 1, max = 2 } }",
    /Baseline outside its range[\s\S]*vcpus = 4 lies above max 2/,
  ],
  ["a mode that does not exist", 'adaptation = { mode = "manual" }', /use one of: auto, approve/],
  ["a speaker without a group", "speaker = true", /A speaker needs a group/],
  ["a fraction of a vCPU", "vcpus = 0.5", /use a whole\s+number/],
  [
    "an address that is none",
    'networks = [{ network_id = "n", address = "10.1" }]',
    /networks\[0\]\.address/,
  ],
])("validate refuses %s", (_, lines, words) => {
  const networks = lines.includes("networks") ? "" : "networks = []";
  write(
    `resource "drover_machine" "x" {\n environment_id = "e"\n name = "x"\n image_id = "i"\n${networks}\n${lines}\n}\n`,
  );
  const validated = terraform("validate");
  expect(validated.status).toBe(1);
  expect(validated.stderr).toMatch(words);
});

const ring = `resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_machine" "x" {
  environment_id = drover_environment.ring.id
  name           = "x"
  image_id       = "i"
  networks       = []
}
`;

test("a plan to create needs no shepherd", () => {
  write(ring);
  const planned = terraform("plan");
  expect(planned.stderr).toBe("");
  expect(planned.stdout).toMatch(/Plan: 2 to add, 0 to change, 0 to destroy/);
});

test.each([
  ["terraform", "terraform"],
  ["tofu", findTofu() ?? "tofu"],
])("%s attaches to a provider that was started for a debugger", async (_, binary) => {
  write(ring);
  const child = spawn(join(directory, "mirror", providerFile), ["--debug"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const line = await new Promise<string>((resolve) =>
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString())),
    );
    const attach = /^TF_REATTACH_PROVIDERS='(.*)'$/m.exec(line)?.[1] ?? "";
    const planned = runWith(binary, { TF_REATTACH_PROVIDERS: attach }, "plan");
    expect(planned.stderr).toBe("");
    expect(planned.stdout).toMatch(/Plan: 2 to add/);
    expect(child.exitCode).toBeNull(); // it serves the next command too
  } finally {
    child.kill("SIGTERM");
  }
});

test("apply without a shepherd says where it looked, why there, and leaves no state", () => {
  write(ring);
  const applied = terraform("apply", "-auto-approve");
  expect(applied.status).toBe(1);
  expect(applied.stderr.replaceAll("\n", " ")).toMatch(
    /The shepherd is unreachable.*unix:\/nowhere\/shepherd\.sock: there is no such socket.*the provider's endpoint names it/,
  );
  expect(terraform("state", "list").stdout).toBe("");
});
