/**
 * The same walk under Terraform and under OpenTofu, against a shepherd on the simulated world: init from a mirror,
 * validate, plan, apply, functions, -target, -refresh-only, -replace, moved, removed, import in three ways, test with the
 * real and a mocked provider, destroy. What only one of them must do stands in shepherd.test.ts.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { findTofu } from "../../tools/opentofu.ts";
import { Bench } from "./bench.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 50 });
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

const tofu = findTofu();
test("OpenTofu 1.11 is there (else: node test/tools/opentofu.ts builds it)", () => {
  expect(tofu).toBeDefined();
});

const tools = [
  { tool: "terraform", binary: "terraform" },
  ...(tofu === undefined ? [] : [{ tool: "tofu", binary: tofu }]),
];

const lone = `
resource "drover_machine" "lone" {
  environment_id = drover_environment.it.id
  name           = "lone"
  image_id       = drover_image.base.id
  networks       = []
}
`;
/** Three machines in a ring of links, which the provider's functions lay out, and one alone. */
const ring = (name: string) => `
resource "drover_image" "base" {
  name   = "${name}"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "${name}"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_network" "lan" {
  environment_id = drover_environment.it.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}
locals {
  ranks = { for number in range(3) : "rank-\${number}" => number }
}
resource "drover_machine" "rank" {
  for_each       = local.ranks
  environment_id = drover_environment.it.id
  name           = each.key
  image_id       = drover_image.base.id
  memory_mib     = provider::drover::parse_size("0.125GiB").mib
  networks = [{
    network_id = drover_network.lan.id
    address    = provider::drover::cidr_address(drover_network.lan.cidr, 10 + each.value)
  }]
  adaptation = { memory_mib = { min = 64, max = 256 }, sites = ["north", "south"] }
}
resource "drover_link" "ring" {
  for_each       = { for pair in provider::drover::ring(keys(local.ranks)) : join("_", pair) => pair }
  environment_id = drover_environment.it.id
  machines       = [for name in each.value : drover_machine.rank[name].name]
  rate_mbps      = provider::drover::parse_rate("0.2Gbit/s").mbps
}
${lone}`;

describe.each(tools)("$tool", ({ tool, binary }) => {
  let stack: Terraform;
  const write = (configuration: string) => bench.write(stack, configuration);
  const keys = async () => [...(await stack.state()).keys()];
  const clean = async (args: readonly string[] = []) => {
    const { code, text } = await stack.plan(args);
    if (code !== 0) throw new Error(text);
  };

  test("init, validate, plan, apply, and the next plan is empty", async () => {
    stack = await bench.stack(tool, ring(tool), { binary });
    expect((await stack.must(["version"])).stdout).toMatch(
      tool === "tofu" ? /OpenTofu v1\.11/ : /Terraform v1\./,
    );
    expect((await stack.must(["validate"])).stdout).toMatch(/Success/);
    const { code, text } = await stack.plan();
    expect([code, /Plan: (\d+) to add/.exec(text)?.[1]]).toEqual([2, "10"]);
    await stack.must(["apply", "-auto-approve"]);
    await clean();
    const state = await stack.state();
    expect(state.get('drover_machine.rank["rank-2"]')).toMatchObject({
      memory_mib: 128,
      networks: [{ address: "10.42.0.12" }],
      effective: { state: "running" },
    });
    expect([...state.keys()].filter((key) => key.startsWith("drover_link"))).toEqual([
      'drover_link.ring["rank-0_rank-1"]',
      'drover_link.ring["rank-1_rank-2"]',
      'drover_link.ring["rank-2_rank-0"]',
    ]);
  }, 90_000);

  test("a function's error names the argument in the configuration", async () => {
    write(ring(tool).replace("0.125GiB", "lots"));
    const refused = await stack.run(["plan"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr.replaceAll(/[\s│]+/g, " ")).toMatch(
      /Invalid value for "text" parameter: "lots" is not a size: write a number and a unit, such as 2GiB/,
    );
    write(ring(tool));
  }, 60_000);

  test("-target changes one, -refresh-only nothing, -replace makes one anew", async () => {
    const address = 'drover_machine.rank["rank-1"]';
    const machines = async () =>
      [...(await stack.state())].filter(([key]) => key.startsWith("drover_machine.rank"));
    const sizes = async () => (await machines()).map(([, { memory_mib }]) => memory_mib);
    write(ring(tool).replace("0.125GiB", "192MiB"));
    await stack.must(["apply", "-auto-approve", `-target=${address}`]);
    expect(await sizes()).toEqual([128, 192, 128]);
    expect((await stack.run(["apply", "-refresh-only", "-auto-approve"])).code).toBe(0);
    write(ring(tool));
    const before = (await stack.state()).get(address)?.["id"];
    const replaced = await stack.must(["apply", "-auto-approve", `-replace=${address}`]);
    expect(replaced.stdout).toMatch(/1 added, 0 changed, 1 destroyed/);
    expect((await stack.state()).get(address)?.["id"]).not.toBe(before);
    expect(await sizes()).toEqual([128, 128, 128]);
    await clean();
  }, 120_000);

  test("moved renames, removed forgets, import by id takes it back", async () => {
    const renamed = ring(tool)
      .replaceAll('"drover_network" "lan"', '"drover_network" "net"')
      .replaceAll("drover_network.lan", "drover_network.net");
    write(`${renamed}moved {\n  from = drover_network.lan\n  to   = drover_network.net\n}\n`);
    await stack.must(["apply", "-auto-approve"]);
    expect(await keys()).toContain("drover_network.net");
    const link = /resource "drover_link"[\s\S]*?\n\}\n/;
    write(
      renamed.replace(
        link,
        "removed {\n  from = drover_link.ring\n  lifecycle {\n    destroy = false\n  }\n}\n",
      ),
    );
    await stack.must(["apply", "-auto-approve"]);
    expect((await keys()).filter((key) => key.startsWith("drover_link"))).toEqual([]);
    write(renamed);
    for (const pair of ["rank-0,rank-1", "rank-1,rank-2", "rank-2,rank-0"])
      await stack.must([
        "import",
        `drover_link.ring["${pair.replace(",", "_")}"]`,
        `${tool}/${pair}`,
      ]);
    await clean();
  }, 120_000);

  test("an import block with generated configuration plans clean, as written", async () => {
    const address = "drover_machine.lone";
    await stack.must(["state", "rm", address]);
    const renamed = readFileSync(join(stack.directory, "main.tf"), "utf8");
    writeFileSync(
      join(stack.directory, "main.tf"),
      `${renamed.replace(lone, "")}import {\n  to = ${address}\n  id = "${tool}/lone"\n}\n`,
    );
    const generated = join(stack.directory, "generated.tf");
    const { text } = await stack.plan([`-generate-config-out=${generated}`]);
    expect(text).toMatch(/1 to import, 0 to add, 0 to change, 0 to destroy/);
    const configuration = readFileSync(generated, "utf8");
    expect(configuration).toMatch(/name\s+= "lone"/);
    expect(configuration).not.toMatch(/effective|^\s+id\s/m); // nothing computed
    await stack.must(["apply", "-auto-approve"]); // with the generated file as the configuration
    await clean();
  }, 90_000);

  test("test files run against the real provider and against a mock of it", async () => {
    const name = `${tool}-tested`;
    const tested = await bench.stack(
      name,
      `resource "drover_environment" "t" {\n  name  = "${name}"\n  class = "batch"\n  sites = ["north"]\n}\n`,
      { binary },
    );
    const check = (run: string, condition: string) =>
      `run "${run}" {\n  assert {\n    condition     = ${condition}\n    error_message = "${run}"\n  }\n}\n`;
    writeFileSync(
      join(tested.directory, "real.tftest.hcl"),
      check("real", 'drover_environment.t.owner == "local-root"'),
    );
    writeFileSync(
      join(tested.directory, "mock.tftest.hcl"),
      `mock_provider "drover" {}\n${check("mock", 'drover_environment.t.id != ""')}`,
    );
    expect((await tested.must(["test"])).stdout).toMatch(/2 passed, 0 failed/);
  }, 60_000);

  test("destroy leaves nothing", async () => {
    await stack.must(["destroy", "-auto-approve"]);
    expect(await keys()).toEqual([]);
    expect(await bench.client.get("/v1/environments")).toEqual({ items: [] });
    expect(existsSync(join(stack.directory, ".terraform"))).toBe(true); // it was a real one
  }, 60_000);
});
