/**
 * User data that is given write-only, with the real Terraform: the shepherd has it, and no plan, no state and no log does.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { MachineView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("secret", configuration(1));
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

function configuration(version: number, lines = "", groupMib = 256): string {
  return `
variable "seed" {
  type      = string
  ephemeral = true
}
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "secret"
  class = "batch"
  sites = ["north"]
}
resource "drover_machine" "m" {
  environment_id       = drover_environment.it.id
  name                 = "m"
  image_id             = drover_image.base.id
  memory_mib           = 256
  networks             = []
  allow_restart        = true
  user_data_wo         = var.seed
  user_data_wo_version = ${version}
  ${lines}
}
resource "drover_group" "g" {
  environment_id = drover_environment.it.id
  name           = "g"
  machine_count  = 1
  template = {
    image_id             = drover_image.base.id
    memory_mib           = ${groupMib}
    networks             = []
    allow_restart        = true
    user_data_wo         = var.seed
    user_data_wo_version = ${version}
  }
}
`;
}
const first = "#cloud-config\npassword: correct-horse";
const second = "#cloud-config\npassword: battery-staple";
async function run(args: readonly string[], seed: string) {
  const log = join(stack.directory, "trace.log");
  const env = { TF_VAR_seed: seed, TF_LOG: "trace", TF_LOG_PATH: log };
  const { code, stdout, stderr } = await stack.run(args, { env });
  return { code, said: stdout + stderr };
}
/** Of the machine, and of the group's. */
async function digests(): Promise<readonly (string | null)[]> {
  const { items } = await bench.client.get<{ items: MachineView[] }>("/v1/machines");
  return items.map(({ user_data_sha256 }) => user_data_sha256);
}
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** Every file that Terraform left, and the plan in words. */
async function leftBehind(): Promise<string> {
  const texts = readdirSync(stack.directory, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== "plan")
    .map(({ name }) => readFileSync(join(stack.directory, name), "utf8"));
  const { stdout } = await stack.run(["show", "-json", "plan"]);
  return [...texts, stdout].join("\n");
}

test("the shepherd has it, and neither plan nor state nor log has it", async () => {
  expect(await run(["plan", "-out=plan"], first)).toMatchObject({ code: 0 });
  expect(await run(["apply", "plan"], first)).toMatchObject({ code: 0 });
  expect(await digests()).toEqual([sha256(first), sha256(first)]);
  const left = await leftBehind();
  expect(left).toContain("user_data_wo_version");
  expect(left).not.toContain("correct-horse");
  rmSync(join(stack.directory, "plan"));
}, 120_000);

test("another text alone is no change; another version gives it anew, and plan says that it restarts", async () => {
  expect(await run(["plan", "-detailed-exitcode"], second)).toMatchObject({ code: 0 });
  bench.write(stack, configuration(2));
  const planned = await run(["plan", "-out=plan"], second);
  expect(planned.said).toMatch(/user_data\s*"?\s*=\s*"restart"/);
  expect(await run(["apply", "plan"], second)).toMatchObject({ code: 0 });
  expect(await digests()).toEqual([sha256(second), sha256(second)]);
  expect(await leftBehind()).not.toContain("battery-staple");
  expect(await run(["plan", "-detailed-exitcode"], second)).toMatchObject({ code: 0 });
  // Another word of the template alone leaves it as it is.
  bench.write(stack, configuration(2, "", 288));
  expect(await run(["apply", "-auto-approve"], first)).toMatchObject({ code: 0 });
  expect(await digests()).toEqual([sha256(second), sha256(second)]);
}, 120_000);

test.each([
  ["both ways at once", configurationWith('user_data = "#!/bin/sh"'), "exclude each other"],
  ["no version", (text: string) => text.replace(/user_data_wo_version.*/, ""), "belong together"],
])(
  "%s is an error of the plan",
  async (_, edit, problem) => {
    bench.write(stack, edit(configuration(2)));
    const { code, said } = await run(["plan"], second);
    expect(code).toBe(1);
    expect(said).toContain(problem);
  },
  60_000,
);

function configurationWith(line: string): (text: string) => string {
  return (text) => text.replace("allow_restart        = true", `allow_restart = true\n  ${line}`);
}
