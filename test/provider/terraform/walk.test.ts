/**
 * What a user does who has read only the README and the generated reference: its HCL is taken from there as it stands,
 * edited as the pages say, and the ring is built, resized, pinned, adapted and adopted, a machine of another tool taken
 * over, every data source read, and all of it destroyed. With the real Terraform, on simulated sites.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineView, RequestAnswer } from "@drover/shepherd/api/contract";
import type { DomainData } from "@drover/shepherd/simulated/data";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "./bench.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
/** The example of a page, as a user copies it. */
const example = (path: string) => read(`docs/provider/examples/${path}`);

let bench: Bench;
let stack: Terraform;
/** The user's own file, as it is edited from step to step. */
let text: string;
let foreignId: string;
/** The page's import block for a machine that another tool made, under the name that the user gives it. */
let importBlock: string;

beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  const [, block = ""] = /```hcl\n([\s\S]*?)```/.exec(read("README.md")) ?? [];
  text = block.replaceAll("/var/lib/images/base.qcow2", bench.image.path);
  stack = await bench.stack("walk", "");
  const [, page = "", uuid = ""] =
    /(import \{\n {2}to = drover_machine\.rank0\n {2}id = "ring\/rank-0=([0-9a-f-]+)"\n\})/.exec(
      read("docs/provider/resources/machine.md"),
    ) ?? [];
  foreignId = uuid;
  importBlock = page.replace("rank0", "db").replace("rank-0", "db");
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

function write(): void {
  writeFileSync(join(stack.directory, "main.tf"), text);
}
/** As an editor replaces: what is not there would be a test that tests nothing. */
function edit(from: string, to: string): void {
  expect(text).toContain(from);
  text = text.replace(from, to);
  write();
}
async function apply(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await stack.run(["apply", "-auto-approve", ...args]);
  expect([code, stdout + stderr]).toEqual([0, expect.anything()]);
  return stdout;
}
async function expectNoChange(): Promise<void> {
  const { code, text: said } = await stack.plan();
  expect([code, said]).toEqual([0, expect.anything()]);
}
async function machine(name: string): Promise<MachineView | undefined> {
  const { items } = await bench.client.get<{ items: MachineView[] }>("/v1/machines", {
    query: { environment: "ring", name },
  });
  return items[0];
}
async function ask(cpuPercent: number): Promise<RequestAnswer> {
  return await bench.client.call<RequestAnswer>("POST", "/v1/requests", {
    query: { wait_ms: 30_000 },
    waitMs: 30_000,
    body: {
      method: "resize",
      environment: "ring",
      machine: "rank-0",
      params: { cpu_percent: cpuPercent },
    },
  });
}

test("the README's ring is built, and the next plan is empty", async () => {
  write();
  await stack.init();
  await apply();
  await expectNoChange();
  expect(await machine("rank-1")).toMatchObject({ effective: { state: "running", site: "north" } });
}, 120_000);

test("resized: an edit of a baseline happens live", async () => {
  const before = await machine("rank-0");
  edit("memory_mib  = 256", "memory_mib  = 320");
  const planned = await stack.plan();
  expect(planned.changes.map(({ actions }) => actions)).toEqual([["update"], ["update"]]);
  await apply();
  expect(await machine("rank-0")).toMatchObject({ id: before?.id, effective: { memory_mib: 320 } });
  await expectNoChange();
}, 120_000);

let denied = "";
test("pinned: an ask is denied and says by which rule; unpinned it is granted, and plan stays empty", async () => {
  edit("adaptation = {", 'adaptation = {\n    mode        = "pinned"');
  await apply();
  const refused = await ask(40);
  expect(refused.verdict).toBe("denied");
  expect(refused.findings.filter(({ ok }) => !ok).map(({ rule }) => rule)).toContain(
    "adaptation_mode",
  );
  denied = refused.decision;
  edit('\n    mode        = "pinned"', "");
  await apply();
  expect(await ask(40)).toMatchObject({ verdict: "granted" });
  await expectNoChange();
}, 120_000);

test("every data source is read in one configuration, as their pages show them", async () => {
  const folder = join(root, "docs/provider/examples/data-sources");
  const sources = readdirSync(folder).map((name) => example(`data-sources/${name}/data-source.tf`));
  expect(sources.length).toBeGreaterThanOrEqual(7);
  writeFileSync(join(stack.directory, "look.tf"), sources.join("\n"));
  await apply(`-var=decision=${denied}`);
  const shown = JSON.parse((await stack.must(["show", "-json"])).stdout) as {
    values: { root_module: { resources: { mode: string; type: string; values: object }[] } };
  };
  const data = new Map(
    shown.values.root_module.resources
      .filter(({ mode }) => mode === "data")
      .map(({ type, values }) => [type, values]),
  );
  expect(data.get("drover_sites")).toMatchObject({ sites: [{ id: "north", owner: "nora" }] });
  expect(data.get("drover_site")).toMatchObject({ owner: "nora" });
  expect(data.get("drover_hosts")).toMatchObject({ hosts: [{ id: "north-1" }, { id: "north-2" }] });
  expect(data.get("drover_machine_status")).toMatchObject({ effective: { cpu_percent: 40 } });
  expect(data.get("drover_decision")).toMatchObject({
    explanation: expect.stringContaining("adaptation_mode"),
  });
  expect(data.get("drover_decisions")).toMatchObject({
    decisions: expect.arrayContaining([expect.objectContaining({ id: denied })]),
  });
}, 120_000);

test("adopted: the printed lines make what was granted the baseline, and nothing moves", async () => {
  const { stdout } = await stack.must(["output", "-json", "adopt"]);
  const lines = (JSON.parse(stdout) as Record<string, string>)["rank-0"] ?? "";
  const [adopted = ""] = /cpu_percent\s*=\s*40/.exec(lines) ?? [];
  writeFileSync(join(stack.directory, "look.tf"), "");
  edit("cpu_percent = 20", adopted);
  await apply();
  expect(await machine("rank-0")).toMatchObject({
    cpu_percent: 40,
    effective: { cpu_percent: 40, adaptation_id: null },
  });
  await expectNoChange();
}, 120_000);

test("a machine of another tool is taken over with the page's import block, and is not restarted", async () => {
  await bench.behindItsBack((world) => {
    const north = world.hosts["north-2"];
    if (north === undefined) throw new Error("there is no north-2");
    north.domains[foreignId] = foreign(foreignId);
  });
  writeFileSync(join(stack.directory, "look.tf"), importBlock);
  const generated = join(stack.directory, "generated.tf");
  const planned = await stack.plan([`-generate-config-out=${generated}`]);
  expect(planned.text).toContain("1 to import, 0 to add, 0 to change, 0 to destroy");
  await apply();
  await expectNoChange();
  expect(await machine("db")).toMatchObject({ id: foreignId, origin: "import" });
}, 120_000);

function foreign(id: string): DomainData {
  return {
    id,
    name: "old-db",
    spec: undefined,
    state: "running",
    vcpus: 1,
    vcpusMax: 1,
    cpuPercent: 50,
    memoryMaxMib: 512,
    askedMib: 512,
    memory: { fromMib: 512, toMib: 512, sinceMs: 0 },
    cpuTime: { beforeMs: 0, sinceMs: 0 },
    bootId: "booted-long-ago",
    bootedAtMs: 0,
    diskContent: "rows",
    job: "none",
  };
}

test("destroyed, nothing of it is left", async () => {
  await stack.must(["destroy", "-auto-approve"]);
  expect((await stack.state()).size).toBe(0);
  expect(await bench.client.get("/v1/machines")).toEqual({ items: [] });
  expect(await bench.client.get("/v1/environments")).toEqual({ items: [] });
}, 120_000);
