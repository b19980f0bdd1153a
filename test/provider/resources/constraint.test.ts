/**
 * An environment binds itself with a constraint, with the real Terraform: what does not fit its rule stands in the plan,
 * what is declared judges the next ask under its own name, is explained, replayed exactly, imported, and taken back.
 */

import type { Explanation, MachineView, RequestAnswer } from "@drover/shepherd/api/contract";
import type { ConstraintView } from "@drover/shepherd/api/contract-constraints";
import type { ExactnessView } from "@drover/shepherd/api/contract-policies";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("bound", around());
  await stack.must(["apply", "-auto-approve"]);
}, 120_000);
afterAll(() => bench?.clear(), 60_000);

function around(constraint = ""): string {
  return `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "bound"
  class = "batch"
  sites = ["north"]
}
resource "drover_machine" "m" {
  environment_id = drover_environment.it.id
  name           = "m"
  image_id       = drover_image.base.id
  cpu_percent    = 20
  networks       = []
  adaptation     = { cpu_percent = { min = 10, max = 90 } }
}
${constraint}
`;
}
function calm(lines: string): string {
  return around(`
resource "drover_constraint" "calm" {
  environment_id = drover_environment.it.id
  name           = "calm"
  ${lines}
}
`);
}
const twice = (cpu: number) =>
  `rule = "growth_factor"
  params = jsonencode({ max_factor = { vcpus = 2, cpu_percent = ${cpu}, memory_mib = 2 } })`;
const flat = (text: string) => text.replaceAll(/[\s│╷╵]+/g, " ");

async function plan(configuration: string) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(["plan", "-detailed-exitcode"]);
  return { code, said: flat(stdout + stderr) };
}
async function ask(cpuPercent: number): Promise<RequestAnswer> {
  return await bench.client.call<RequestAnswer>("POST", "/v1/requests", {
    query: { wait_ms: 30_000 },
    waitMs: 30_000,
    body: {
      method: "resize",
      environment: "bound",
      machine: "m",
      params: { cpu_percent: cpuPercent },
    },
  });
}
const declared = async () =>
  (await bench.client.get<{ items: ConstraintView[] }>("/v1/constraints")).items;

test.each([
  [
    "a rule that there is not",
    `rule = "growth"\n  params = jsonencode({})`,
    "there is no rule growth; there are",
  ],
  [
    "a rule that is not its to declare",
    `rule = "host_headroom"\n  params = jsonencode({})`,
    "judges by numbers of others",
  ],
  ["a level that would loosen", `level = "warn"\n  ${twice(2)}`, "warn is laxer than the deny"],
  [
    "parameters that do not fit",
    `rule = "growth_factor"\n  params = jsonencode({ max = 2 })`,
    "required",
  ],
  ["no JSON object", `rule = "growth_factor"\n  params = "twice"`, "Not a JSON object"],
])(
  "%s is an error of the plan, at its attribute",
  async (_, lines, problem) => {
    const { code, said } = await plan(calm(lines));
    expect(code).toBe(1);
    expect(said).toContain("with drover_constraint.calm, on main.tf line");
    expect(said).toContain(problem);
    expect(await declared()).toEqual([]);
  },
  60_000,
);

test("the rest of the plan is judged by what the plan declares, in an environment of the same plan too", async () => {
  const bound = (environment: string) => `
resource "drover_constraint" "calm" {
  environment_id = drover_environment.${environment}.id
  name           = "calm"
  rule           = "environment_quota"
  params = jsonencode({
    max_machines = 8, max_vcpus = 8, max_cpu_percent = 50, max_memory_mib = 4096, max_disk_gib = 100, max_rate_mbps = 1000
  })
}
`;
  const grown = around(bound("it")).replace(
    "cpu_percent    = 20",
    "cpu_percent    = 60\n  depends_on     = [drover_constraint.calm]",
  );
  const late = await plan(grown);
  expect([late.code, late.said]).toEqual([1, expect.stringContaining("with drover_machine.m")]);
  expect(late.said).toContain("quota is 50");
  expect((await plan(grown.replace("cpu_percent    = 60", "cpu_percent    = 40"))).code).toBe(2);
  const fresh = await plan(
    around(`
resource "drover_environment" "new" {
  name  = "new"
  class = "batch"
  sites = ["north"]
}
resource "drover_machine" "n" {
  environment_id = drover_environment.new.id
  name           = "n"
  image_id       = drover_image.base.id
  cpu_percent    = 60
  networks       = []
  depends_on     = [drover_constraint.calm]
}
${bound("new")}`),
  );
  expect([fresh.code, fresh.said]).toEqual([1, expect.stringContaining("with drover_machine.n")]);
  expect(fresh.said).toContain("quota is 50");
  expect(await declared()).toEqual([]);
}, 60_000);

test("what is declared judges the next ask, by its own name, and the plan stays empty", async () => {
  bench.write(stack, calm(twice(2)));
  await stack.must(["apply", "-auto-approve"]);
  expect((await stack.state()).get("drover_constraint.calm")).toMatchObject({
    level: "deny",
    instance: "stack:calm",
  });
  expect((await plan(calm(twice(2)))).code).toBe(0);
  const denied = await ask(60);
  expect(denied.findings.filter(({ ok }) => !ok)).toMatchObject([
    {
      owner: "owner:local-root",
      rule: "growth_factor",
      id: "stack:calm",
      fix: { cpu_percent: 40 },
    },
  ]);
  const { text } = await bench.client.get<Explanation>(
    `/v1/decisions/${denied.decision}/explanation`,
  );
  expect(text).toContain("growth_factor/stack:calm (owner:local-root)");
  expect(await ask(40)).toMatchObject({ verdict: "granted" });
  await bench.client.call("POST", "/v1/requests", {
    query: { wait_ms: 30_000 },
    waitMs: 30_000,
    body: { method: "release", environment: "bound", machine: "m", params: {} },
  });
}, 120_000);

test("decisions that it took part in are repeated exactly, also once it is another", async () => {
  bench.write(stack, calm(twice(3)));
  await stack.must(["apply", "-auto-approve"]);
  expect((await declared())[0]).toMatchObject({
    params: { max_factor: { cpu_percent: 3 } },
  });
  expect(await ask(60)).toMatchObject({ verdict: "granted" });
  const replayed = await bench.client.get<ExactnessView>("/v1/policy-replay", { waitMs: 60_000 });
  expect(replayed.replayed).toBeGreaterThan(5);
  expect(replayed).toMatchObject({ differing: [], missing: 0 });
}, 120_000);

test("it is imported by its names, and the plan after that is empty", async () => {
  await stack.must(["state", "rm", "drover_constraint.calm"]);
  await stack.must(["import", "drover_constraint.calm", "bound/calm"]);
  expect((await plan(calm(twice(3)))).code).toBe(0);
}, 60_000);

test("taken back, the policy says what it said before; and destroy takes it along", async () => {
  bench.write(stack, around());
  await stack.must(["apply", "-auto-approve"]);
  expect(await declared()).toEqual([]);
  bench.write(stack, calm(twice(2)));
  await stack.must(["apply", "-auto-approve"]);
  await stack.must(["destroy", "-auto-approve"]);
  expect(await declared()).toEqual([]);
  expect(await bench.client.get<{ items: MachineView[] }>("/v1/machines")).toEqual({ items: [] });
}, 120_000);
