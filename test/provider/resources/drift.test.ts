/**
 * The drift table of docs/provider/guides/drift-and-adaptation.md, with the real Terraform: what plan and apply make of
 * adaptations, foreign changes and edits. The rows that need one language only stand at the end.
 */
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import { Bench } from "../terraform/bench.ts";
import {
  ask,
  cdktfStack,
  type DriftStack,
  declared,
  hclStack,
  isClean,
  live,
  planned,
} from "./drift-stack.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

const stacks = [
  ["HCL", "drift-hcl", hclStack],
  ["CDKTF", "drift-cdktf", cdktfStack],
] as const;

describe.each(stacks)("in %s", (_, environment, make) => {
  let stack: DriftStack;
  const resize = (params: object) => ask(bench, stack, { method: "resize", params });

  test("the stack is built, and plan is empty", async () => {
    stack = await make(bench, environment);
    await stack.write();
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await isClean(stack)).toBe(true);
  }, 180_000);

  test("plan is empty after an approved change, also for those who refer to its baselines", async () => {
    expect(await resize({ cpu_percent: 60, memory_mib: 320 })).toMatchObject({
      verdict: "granted",
    });
    expect(await isClean(stack)).toBe(true);
  }, 180_000);

  test("an unrelated edit keeps what was granted", async () => {
    await stack.write({ class: "interactive" });
    expect(await planned(stack)).toEqual([`${stack.machine} class: "batch" -> "interactive"`]);
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 60, memory_mib: 320 });
    await stack.write();
    await stack.terraform.must(["apply", "-auto-approve"]);
  }, 180_000);

  test("an edit of an adapted value is shown, warned of, and wins; the others stay adapted", async () => {
    await stack.write({ memoryMib: 384 });
    const warned = await stack.terraform.run(["plan"]);
    expect(warned.stdout).toMatch(/An approved adaptation will be superseded/);
    expect(await planned(stack)).toContain(`${stack.machine} memory_mib: 256 -> 384`);
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 60, memory_mib: 384 });
    expect(await isClean(stack)).toBe(true);
  }, 180_000);

  test("a pinned attribute goes back in one step, and may adapt again when it is unpinned", async () => {
    await stack.write({ memoryMib: 384, pinned: ["cpuPercent"] });
    const changes = await planned(stack);
    expect(changes).toContain(`${stack.machine} adaptation`);
    expect(changes).toContain(`${stack.machine} effective.cpu_percent: 60 -> 20`);
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 20, memory_mib: 384 });
    expect(await isClean(stack)).toBe(true);
    expect(await resize({ cpu_percent: 40 })).toMatchObject({ verdict: "denied" });
    await stack.write({ memoryMib: 384 });
    expect(await planned(stack)).toEqual([`${stack.machine} adaptation`]);
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await resize({ cpu_percent: 60 })).toMatchObject({ verdict: "granted" });
  }, 180_000);

  test("the patch that data.drover_adaptations prints makes what was granted the baseline", async () => {
    expect(await resize({ cpu_percent: 50, memory_mib: 448 })).toMatchObject({
      verdict: "granted",
    });
    const looking = await bench.stack(
      `look-${environment}`,
      `data "drover_adaptations" "it" {\n  environment = "${environment}"\n  machine     = "rank-0"\n}
output "patch" {\n  value = one(data.drover_adaptations.it.adaptations[*].${stack.language})\n}\n`,
    );
    await looking.must(["apply", "-auto-approve"]);
    const { patch } = JSON.parse((await looking.must(["output", "-json"])).stdout);
    await stack.write({ adopted: patch.value });
    const warned = await stack.terraform.run(["plan"]);
    expect(warned.stdout).not.toMatch(/superseded/);
    expect(await planned(stack)).toEqual(
      expect.arrayContaining([
        `${stack.machine} cpu_percent: 20 -> 50`,
        `${stack.machine} memory_mib: 384 -> 448`,
      ]),
    );
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await isClean(stack)).toBe(true);
    expect(await live(bench, stack)).toMatchObject({
      cpu_percent: 50,
      memory_mib: 448,
      adaptation_id: null,
    });
    await stack.write();
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 20, memory_mib: 256 });
  }, 180_000);

  test("destroy leaves nothing of it", async () => {
    await stack.terraform.must(["destroy", "-auto-approve"]);
    expect(
      (await bench.client.get<{ items: { name: string }[] }>("/v1/environments")).items,
    ).not.toContainEqual(expect.objectContaining({ name: environment }));
  }, 180_000);
});

describe("in HCL alone", () => {
  const environment = "drift-more";
  let stack: DriftStack;
  const resize = (params: object) => ask(bench, stack, { method: "resize", params });
  beforeAll(async () => {
    stack = await hclStack(bench, environment);
    await stack.write();
    await stack.terraform.must(["apply", "-auto-approve"]);
    await resize({ cpu_percent: 60 });
  }, 180_000);
  afterAll(() => stack?.terraform.run(["destroy", "-auto-approve"]), 180_000);

  test("an argument that is removed stays at what it was", async () => {
    await stack.write({ vcpus: null });
    expect(await isClean(stack)).toBe(true);
  }, 180_000);

  test("bounds that no longer hold what was granted put the baseline in force", async () => {
    await stack.write({ cpuMax: 40 });
    expect(await planned(stack)).toContain(`${stack.machine} effective.cpu_percent: 60 -> 20`);
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 20 });
    await stack.write();
    await stack.terraform.must(["apply", "-auto-approve"]);
    await resize({ cpu_percent: 60 });
  }, 180_000);

  test("a link whose rate was granted leaves the plan empty; an edit of it wins", async () => {
    const rate = (rate_mbps: number) =>
      ask(bench, stack, { method: "rate", params: { peer: "rank-1", rate_mbps } });
    expect(await rate(40)).toMatchObject({ verdict: "granted" });
    expect(await isClean(stack)).toBe(true);
    await stack.write({ rateMbps: 60 });
    expect(await planned(stack)).toContain(`${stack.link} rate_mbps: 100 -> 60`);
    await stack.terraform.must(["apply", "-auto-approve"]);
    expect(await isClean(stack)).toBe(true);
    await stack.write();
    await stack.terraform.must(["apply", "-auto-approve"]);
  }, 180_000);

  test("a lease that ends between plan and apply: plan.stale, and nothing is changed", async () => {
    expect(await resize({ memory_mib: 512, lease_s: 120 })).toMatchObject({ verdict: "granted" });
    await stack.write({ memoryMib: 640 });
    await stack.terraform.must(["plan", "-out=stale.plan"]);
    await until("the lease to end", 60_000, async () => {
      const { memory_mib, adaptation_id } = await live(bench, stack);
      return adaptation_id === null && memory_mib === 256;
    });
    const applied = await stack.terraform.run(["apply", "stale.plan"]);
    expect(applied.code).toBe(1);
    expect(applied.stderr).toMatch(/plan\.stale/);
    expect(await live(bench, stack)).toMatchObject({ memory_mib: 256 });
    await stack.write();
    expect(await isClean(stack)).toBe(true);
  }, 180_000);

  test("import of an adapted machine finds its baselines, and plan is empty", async () => {
    await resize({ cpu_percent: 60 });
    await stack.terraform.must(["state", "rm", stack.machine]);
    await stack.terraform.must(["import", stack.machine, `${environment}/rank-0`]);
    expect(await isClean(stack)).toBe(true);
    expect((await stack.terraform.state()).get(stack.machine)).toMatchObject({
      cpu_percent: 20,
      effective: { cpu_percent: 60 },
    });
  }, 180_000);

  test("a moved resource takes its adaptation with it, and the plan's JSON lists who was adapted", async () => {
    await resize({ cpu_percent: 40 });
    await stack.terraform.must(["state", "mv", stack.machine, "drover_machine.old"]);
    await stack.write();
    const moved = `${stack.terraform.directory}/moved.tf`;
    writeFileSync(moved, `moved {\n  from = drover_machine.old\n  to   = ${stack.machine}\n}\n`);
    await stack.terraform.must(["plan", "-out=drift.plan"]);
    const shown = JSON.parse((await stack.terraform.must(["show", "-json", "drift.plan"])).stdout);
    const drift = shown.resource_drift as readonly { address: string }[];
    expect(drift.map(({ address }) => address)).toContain(stack.machine);
    await stack.terraform.must(["apply", "drift.plan"]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 40 });
    writeFileSync(moved, "");
    expect(await isClean(stack)).toBe(true);
  }, 180_000);

  test("a machine of a plan with -target alone stays adapted, and one that is replaced begins at its baselines", async () => {
    await stack.write({ class: "interactive" });
    await stack.terraform.must(["apply", "-auto-approve", `-target=${stack.machine}`]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: 40 });
    await stack.terraform.must(["apply", "-auto-approve", `-replace=${stack.machine}`]);
    expect(await live(bench, stack)).toMatchObject({ cpu_percent: declared.cpuPercent });
    expect(await isClean(stack)).toBe(true);
  }, 180_000);
});
