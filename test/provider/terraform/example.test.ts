/**
 * The example provider of the conformance client under the real Terraform and OpenTofu: what drover's own resources do
 * not use today is proven here: ephemeral and write-only values, spellings, moves from other types, a crash, an orphan.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildProvider } from "@drover/provider/build";
import { platformName } from "@drover/provider/install";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import { Terraform } from "../../lab/story/terraform.ts";
import { findTofu } from "../../tools/opentofu.ts";

const host = "example.invalid/example";
let directory = "";
let count = 0;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "drover-example-"));
  // `other` is the same program under another name: a provider that an object moves away from must be installable
  for (const name of ["example", "other"])
    await buildProvider({
      entryPoint: join(import.meta.dirname, "../conformance/example/main.ts"),
      outFile: join(
        directory,
        "mirror",
        host,
        name,
        "0.1.0",
        platformName(),
        `terraform-provider-${name}_v0.1.0`,
      ),
      nodePath: process.execPath,
    });
  writeFileSync(
    join(directory, "cli.tfrc"),
    `provider_installation {\n  filesystem_mirror {\n    path = ${JSON.stringify(join(directory, "mirror"))}\n  }\n}\n`,
  );
}, 30_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const tofu = findTofu();
const tools = [
  { tool: "terraform", binary: "terraform" },
  ...(tofu === undefined ? [] : [{ tool: "tofu", binary: tofu }]),
];

describe.each(tools)("$tool", ({ tool, binary }) => {
  /** A working directory of its own, with boxes of its own. */
  async function stack(configuration: string, state?: object) {
    const working = join(directory, `${count++}`);
    mkdirSync(working);
    const file = join(working, "boxes.json");
    const terraform = new Terraform({
      directory: working,
      cliConfig: join(directory, "cli.tfrc"),
      socket: "/nowhere",
      binary,
    });
    const write = (text: string) =>
      writeFileSync(
        join(working, "main.tf"),
        `terraform {\n  required_providers {\n    example = { source = "${host}/example" }\n  }\n}\n${text}`,
      );
    write(configuration);
    if (state !== undefined)
      writeFileSync(join(working, "terraform.tfstate"), JSON.stringify(state));
    const env = { EXAMPLE_FILE: file, TF_LOG_PROVIDER: "info", TF_LOG_PATH: join(working, "log") };
    const run = (args: readonly string[], options: object = {}) =>
      terraform.run(args, { env, ...options });
    expect(await run(["init"])).toMatchObject({ code: 0 });
    return { working, file, run, write };
  }

  test("an ephemeral secret reaches a write-only argument and nothing else; spellings make no drift", async () => {
    const it = await stack(`
ephemeral "example_key" "k" {
  lock = "door"
}
resource "example_box" "b" {
  name           = "a"
  mac            = "52-54-00-AB-CD-EF"
  secret_wo      = ephemeral.example_key.k.key
  secret_version = 1
  title          = "old"
  timeouts       = { create = "1m" }
}
output "glued" {
  value = provider::example::glue("-", "a", "b")
}
`);
    const applied = await it.run(["apply", "-auto-approve"]);
    expect(applied).toMatchObject({ code: 0 });
    expect(applied.stdout).toMatch(/Deprecated attribute[\s\S]*title\s+= "old"[\s\S]*Use name\./);
    const state = readFileSync(join(it.working, "terraform.tfstate"), "utf8");
    expect(state).not.toContain("key-of-door");
    const { resources, outputs } = JSON.parse(state);
    expect(outputs.glued.value).toBe("a-b");
    expect(resources[0].instances[0].attributes).toMatchObject({
      mac: "52-54-00-AB-CD-EF",
      secret_wo: null,
      digest: createHash("sha256").update("key-of-door").digest("hex"),
    });
    expect(readFileSync(join(it.working, "log"), "utf8")).toMatch(/closed: .*lock/);
    expect(await it.run(["plan", "-detailed-exitcode"])).toMatchObject({ code: 0 });
  }, 60_000);

  test("the plan warns and refuses ahead of apply, removals too", async () => {
    const box = (name: string) =>
      `resource "example_box" "b" {\n  name     = "${name}"\n  size_gib = 500\n}\n`;
    const it = await stack(box("precious"));
    const applied = await it.run(["apply", "-auto-approve"]);
    expect(applied.stdout).toMatch(/A large box/);
    const refused = await it.run(["plan", "-destroy"]);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toMatch(/It is precious/);
    it.write(box("cheap"));
    expect(await it.run(["apply", "-auto-approve"])).toMatchObject({ code: 0 });
    expect(await it.run(["destroy", "-auto-approve"])).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(it.file, "utf8"))).toEqual([]);
  }, 60_000);

  test("an object of another type and provider moves in by a moved block", async () => {
    const crate = {
      mode: "managed",
      type: "other_crate",
      name: "c",
      provider: `provider["${host}/other"]`,
      instances: [{ schema_version: 0, attributes: { uuid: "box-7", weight: 3 } }],
    };
    const it = await stack(
      'resource "example_box" "b" {\n  name = "moved-in"\n}\nmoved {\n  from = other_crate.c\n  to   = example_box.b\n}\n',
      { version: 4, serial: 1, lineage: "x", outputs: {}, resources: [crate] },
    );
    const there = {
      id: "box-7",
      name: "moved-in",
      size_gib: 1,
      mac: "52:54:00:00:00:09",
      zone: null,
    };
    const more = { labels: null, digest: "0", secret_version: null, disks: null };
    writeFileSync(it.file, JSON.stringify([{ ...there, ...more }]));
    const planned = await it.run(["plan"]);
    expect(planned.stdout + planned.stderr).toMatch(/other_crate\.c has moved to example_box\.b/);
    expect(await it.run(["apply", "-auto-approve"])).toMatchObject({ code: 0 });
    const { resources } = JSON.parse(readFileSync(join(it.working, "terraform.tfstate"), "utf8"));
    expect(resources).toMatchObject([
      { type: "example_box", instances: [{ attributes: { id: "box-7", name: "moved-in" } }] },
    ]);
    expect(await it.run(["plan", "-detailed-exitcode"])).toMatchObject({ code: 0 });
  }, 60_000);

  test("a crash shows our stack", async () => {
    const it = await stack('resource "example_box" "b" {\n  name = "crash"\n}\n');
    const crashed = await it.run(["apply", "-auto-approve"]);
    expect(crashed.code).toBe(1);
    expect(crashed.stderr.replaceAll("│", "")).toMatch(
      /The provider crashed; please report this\.\s+RangeError: crashed on purpose\n\s+at /,
    );
    if (tool === "tofu") return; // OpenTofu 1.11 looks for the stack of a plugin in the wrong place
    expect(crashed.stderr).toMatch(
      /Stack trace from the terraform-provider-example_v0\.1\.0 plugin:/,
    );
    expect(crashed.stderr).toMatch(/panic: crashed on purpose[\s\S]*plugin crashed!/);
  }, 60_000);

  test("when the tool is killed, the provider goes too", async () => {
    const it = await stack('resource "example_box" "b" {\n  name = "slow"\n}\n');
    let tool = 0;
    const finished = it.run(["apply", "-auto-approve"], {
      onStart: (child: { pid?: number }) => {
        tool = child.pid ?? 0;
      },
    });
    const pid = await until("the provider to be at work", 20_000, async () =>
      existsSync(`${it.file}.pid`) ? Number(readFileSync(`${it.file}.pid`, "utf8")) : undefined,
    );
    process.kill(tool, "SIGKILL");
    await finished;
    await until("the provider to end", 20_000, async () => !existsSync(`/proc/${pid}`));
  }, 60_000);
});
