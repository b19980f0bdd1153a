/** Terraform, the provider and the shepherd together, on simulated sites: what a platform engineer does in a week. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import type { MachineView, RequestAnswer } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "./bench.ts";

let bench: Bench;
let stack: Terraform;

interface Sizes {
  readonly vcpus?: number;
  readonly memory?: number;
  readonly site?: string;
  readonly mode?: string;
  readonly more?: string;
}
/** Two ranks and a link; rank-0 as given. */
function ring(rank0: Sizes = {}): string {
  const { vcpus = 1, memory = 256, site = "north", mode = "auto", more = "" } = rank0;
  return `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_network" "lan" {
  environment_id = drover_environment.ring.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}
resource "drover_machine" "rank0" {
  environment_id = drover_environment.ring.id
  name           = "rank-0"
  image_id       = drover_image.base.id
  vcpus          = ${vcpus}
  cpu_percent    = 20
  memory_mib     = ${memory}
  site           = "${site}"
  networks       = [{ network_id = drover_network.lan.id, address = "10.42.0.50" }]
  adaptation = {
    mode        = "${mode}"
    vcpus       = { min = 1, max = 4 }
    cpu_percent = { min = 10, max = 60 }
    memory_mib  = { min = 192, max = 1024 }
    sites       = ["north", "south"]
  }
  ${more}
}
resource "drover_machine" "rank1" {
  environment_id = drover_environment.ring.id
  name           = "rank-1"
  image_id       = drover_image.base.id
  networks       = [{ network_id = drover_network.lan.id }]
}
resource "drover_link" "r0_r1" {
  environment_id = drover_environment.ring.id
  machines       = [drover_machine.rank0.name, drover_machine.rank1.name]
  rate_mbps      = 200
}
`;
}

beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("ring", ring());
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

const rank0 = "drover_machine.rank0";
async function apply(configuration: string): Promise<void> {
  bench.write(stack, configuration);
  await stack.must(["apply", "-auto-approve"]);
}
async function attributes(address: string): Promise<Readonly<Record<string, unknown>>> {
  return (await stack.state()).get(address) ?? {};
}
async function effective(): Promise<Readonly<Record<string, unknown>>> {
  return (await attributes(rank0))["effective"] as Readonly<Record<string, unknown>>;
}
/** As an operator, waiting until it is done. */
async function resize(params: object): Promise<RequestAnswer> {
  return await bench.client.call<RequestAnswer>("POST", "/v1/requests", {
    query: { wait_ms: 30_000 },
    waitMs: 30_000,
    body: { method: "resize", environment: "ring", machine: "rank-0", params },
  });
}
/** Names of what a plan would change, with both values. */
async function planned(): Promise<Record<string, [unknown, unknown]>> {
  const { code, changes, text } = await stack.plan();
  if (code === 1) throw new Error(text);
  return Object.fromEntries(
    changes.flatMap(({ address, before, after }) =>
      Object.keys({ ...before, ...after })
        .filter((name) => name !== "effective" && name !== "ways") // told with what changes
        .filter((name) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]))
        .map((name) => [`${address}.${name}`, [before?.[name], after?.[name]]]),
    ),
  );
}

test("apply builds the ring and logs its progress, and the next plan is empty", async () => {
  const log = `${stack.directory}/apply.log`;
  const env = { TF_LOG_PROVIDER: "info", TF_LOG_PATH: log };
  expect(await stack.run(["apply", "-auto-approve"], { env })).toMatchObject({ code: 0 });
  const lines = readFileSync(log, "utf8");
  expect(lines).toMatch(/\[INFO\]\s+provider\S*: create machine "rank-0": operation \S+ runs/);
  expect(lines).not.toContain("@timestamp"); // Terraform shows a line raw that it cannot parse
  expect((await stack.plan()).code).toBe(0);
  expect(await attributes(rank0)).toMatchObject({
    class: "batch",
    vcpus: 1,
    start_from: { vcpus: 1, cpu_percent: 20, memory_mib: 256, site: "north", adaptation_id: "" },
    effective: { vcpus: 1, cpu_percent: 20, memory_mib: 256, site: "north", state: "running" },
  });
  expect(await attributes("drover_machine.rank1")).toMatchObject({
    vcpus: 1,
    cpu_percent: 100,
    memory_mib: 256,
    site: "north",
    adaptation: null,
    networks: [{ address: expect.stringMatching(/^10\.42\.0\.\d+$/) }],
  });
  expect(await attributes("drover_link.r0_r1")).toMatchObject({ effective: { rate_mbps: 200 } });
}, 60_000);

test("after an approved adaptation plan is empty and show has the new values", async () => {
  const answer = await resize({ cpu_percent: 60, memory_mib: 320, reason: "lanczos phase" });
  expect(answer).toMatchObject({ verdict: "granted" });
  expect((await stack.plan()).code).toBe(0);
  await stack.must(["refresh"]);
  expect(await attributes(rank0)).toMatchObject({
    cpu_percent: 20,
    memory_mib: 256,
    effective: { cpu_percent: 60, adaptation_id: expect.any(String), reason: "lanczos phase" },
  });
}, 60_000);

test("an unrelated edit does not undo the adaptation", async () => {
  await apply(ring({ more: 'group = "rank"' }));
  expect(await effective()).toMatchObject({ cpu_percent: 60 });
  expect((await stack.plan()).code).toBe(0);
}, 60_000);

test("a re-created machine starts where it was granted to be, and plan is empty again", async () => {
  const { adaptation_id } = await effective();
  const start = `group = "rank"
  start_from = { vcpus = 1, cpu_percent = 60, memory_mib = 320, site = "north", adaptation_id = "${adaptation_id}" }`;
  bench.write(stack, ring({ more: start }));
  expect((await stack.plan()).code).toBe(0); // an existing machine keeps what it started from
  await stack.must(["apply", "-auto-approve", `-replace=${rank0}`]);
  expect(await effective()).toMatchObject({ cpu_percent: 60, memory_mib: 320, adaptation_id });
  expect((await stack.plan()).code).toBe(0);
  bench.write(stack, ring({ more: 'group = "rank"' }));
  expect((await stack.plan()).code).toBe(0); // the line is gone when the lease is
}, 90_000);

test("a foreign change shows as exactly that attribute, and apply puts it back", async () => {
  await bench.behindItsBack((world) => {
    for (const host of Object.values(world.hosts))
      for (const domain of Object.values(host.domains))
        if (domain.name === "drover-ring-rank-0")
          Object.assign(domain, {
            askedMib: 512,
            memory: { fromMib: 512, toMib: 512, sinceMs: 0 },
          });
  });
  expect(await planned()).toEqual({ [`${rank0}.memory_mib`]: [512, 256] });
  await stack.must(["apply", "-auto-approve"]);
  expect(await effective()).toMatchObject({ memory_mib: 256 });
  expect((await stack.plan()).code).toBe(0);
}, 90_000);

test("a user's edit takes effect live: sizes, then a move; the id stays", async () => {
  const { id } = await attributes(rank0);
  await apply(ring({ vcpus: 2, memory: 384, more: 'group = "rank"' }));
  expect(await effective()).toMatchObject({ vcpus: 2, memory_mib: 384, site: "north" });
  await apply(ring({ vcpus: 2, memory: 384, site: "south", more: 'group = "rank"' }));
  expect(await effective()).toMatchObject({ site: "south", host: "south-1", state: "running" });
  expect((await attributes(rank0))["id"]).toBe(id);
  expect((await stack.plan()).code).toBe(0);
}, 90_000);

test("an adaptation between plan and apply: the stale plan changes nothing, an unrelated edit goes through", async () => {
  const file = `${stack.directory}/stale.plan`;
  const { id } = await attributes(rank0);
  bench.write(stack, ring({ vcpus: 2, memory: 448, site: "south", more: 'group = "rank"' }));
  await stack.must(["plan", `-out=${file}`]);
  expect(await resize({ memory_mib: 512 })).toMatchObject({ verdict: "granted" });
  const applied = await stack.run(["apply", file]);
  expect(applied.code).toBe(1);
  expect(applied.stderr).toMatch(/memory_mib of rank-0 was 384[\s\S]*Plan again/);
  const view = await bench.client.get<MachineView>(`/v1/machines/${id}`);
  expect(view).toMatchObject({ memory_mib: 384, effective: { memory_mib: 512 } });
  const edited = ring({ vcpus: 2, memory: 384, site: "south", more: 'class = "interactive"' });
  bench.write(stack, edited);
  await stack.must(["plan", `-out=${file}`]);
  expect(await resize({ memory_mib: 576 })).toMatchObject({ verdict: "granted" });
  await stack.must(["apply", file]);
  expect((await stack.plan()).code).toBe(0);
  expect(await bench.client.get<MachineView>(`/v1/machines/${id}`)).toMatchObject({
    class: "interactive",
    effective: { memory_mib: 576 },
  });
}, 90_000);

test("a pin takes the machine back to its baselines in one step", async () => {
  await resize({ cpu_percent: 60 });
  const pinned = { vcpus: 2, memory: 384, site: "south", mode: "pinned", more: 'group = "rank"' };
  await apply(ring(pinned));
  expect(await effective()).toMatchObject({ cpu_percent: 20 });
  expect((await stack.plan()).code).toBe(0);
  expect(await resize({ cpu_percent: 60 })).toMatchObject({ verdict: "denied" });
}, 90_000);

test("policy's no stands at the attribute, with rule and nearest value, and nothing changed", async () => {
  bench.write(stack, ring({ vcpus: 1, memory: 384, site: "south", more: 'group = "rank"' }));
  await stack.must(["apply", "-auto-approve"]);
  const huge = ring({ memory: 384, site: "south", more: 'group = "rank"' })
    .replace("cpu_percent    = 20", "cpu_percent    = 3000")
    .replace("max = 60", "max = 3000");
  bench.write(stack, huge);
  const applied = await stack.run(["apply", "-auto-approve"]);
  expect(applied.code).toBe(1);
  const said = applied.stderr.replaceAll(/\s+/g, " ");
  expect(said).toMatch(/Policy does not allow this: environment_quota \(operator\)/);
  expect(said).toMatch(/cpu_percent = 3000 The shepherd would not update machine "rank-0"\./); // the source line
  expect(said).toMatch(/its quota is 1600\. Nearest allowed: cpu_percent = 1500\./);
  expect(said).toMatch(/Nothing has been changed\. \[policy\.denied\]/);
  expect(await effective()).toMatchObject({ cpu_percent: 20 });
  bench.write(stack, ring({ memory: 384, site: "south", more: 'group = "rank"' }));
  expect((await stack.plan()).code).toBe(0);
}, 90_000);

test("import by name finds the machine again, and plan is empty", async () => {
  await stack.must(["state", "rm", rank0]);
  await stack.must(["import", rank0, "ring/rank-0"]);
  expect((await stack.plan()).code).toBe(0);
  const missing = await stack.run(["import", "drover_machine.rank1", "ring/nobody"]);
  expect(missing.code).toBe(1);
}, 60_000);

test("an import block writes the configuration, which plans clean", async () => {
  const whole = ring({ memory: 384, site: "south", more: 'group = "rank"' });
  await stack.must(["state", "rm", rank0]);
  const without = whole
    .replace(/resource "drover_machine" "rank0" \{[\s\S]*?\n\}\n/, "")
    .replace("drover_machine.rank0.name", '"rank-0"');
  bench.write(stack, `${without}import {\n  to = ${rank0}\n  id = "ring/rank-0"\n}\n`);
  const generated = `${stack.directory}/generated.tf`;
  const planned = await stack.plan([`-generate-config-out=${generated}`]);
  expect(planned.text).toMatch(/1 to import, 0 to add, 0 to change, 0 to destroy/);
  await stack.must(["apply", "-auto-approve"]);
  rmSync(generated);
  bench.write(stack, whole);
  expect((await stack.plan()).code).toBe(0);
}, 90_000);

test("-target, -refresh-only, moved and removed go as with any provider", async () => {
  const whole = ring({ memory: 384, site: "south", more: 'group = "rank"' });
  bench.write(stack, whole);
  expect((await stack.plan([`-target=${rank0}`])).code).toBe(0);
  expect((await stack.run(["apply", "-refresh-only", "-auto-approve"])).code).toBe(0);
  const renamed = whole.replaceAll('"drover_network" "lan"', '"drover_network" "net"');
  bench.write(
    stack,
    `${renamed.replaceAll("drover_network.lan", "drover_network.net")}moved {\n  from = drover_network.lan\n  to   = drover_network.net\n}\n`,
  );
  await stack.must(["apply", "-auto-approve"]);
  expect([...(await stack.state()).keys()]).toContain("drover_network.net");
  const link = /resource "drover_link"[\s\S]*?\n\}\n/;
  const forgotten =
    "removed {\n  from = drover_link.r0_r1\n  lifecycle {\n    destroy = false\n  }\n}\n";
  const moved = renamed.replaceAll("drover_network.lan", "drover_network.net");
  bench.write(stack, moved.replace(link, forgotten));
  await stack.must(["apply", "-auto-approve"]);
  bench.write(stack, moved);
  await stack.must(["import", "drover_link.r0_r1", "ring/rank-1,rank-0"]);
  expect((await stack.plan()).code).toBe(0);
}, 90_000);

test("terraform test runs against the real provider and against a mock of it", async () => {
  const tested = await bench.stack(
    "tested",
    'variable "class" {\n  default = "batch"\n}\nresource "drover_environment" "t" {\n  name  = "tested"\n  class = var.class\n  sites = ["north"]\n}\n',
  );
  writeFileSync(
    `${tested.directory}/real.tftest.hcl`,
    'run "real" {\n  assert {\n    condition     = drover_environment.t.owner == "local-root"\n    error_message = "owner"\n  }\n}\n',
  );
  writeFileSync(
    `${tested.directory}/mock.tftest.hcl`,
    'mock_provider "drover" {}\nrun "mock" {\n  assert {\n    condition     = drover_environment.t.id != ""\n    error_message = "id"\n  }\n}\n',
  );
  expect((await tested.must(["test"])).stdout).toMatch(/2 passed, 0 failed/);
}, 60_000);

test("another state that declares the same is told who has it and how to import", async () => {
  const other = await bench.stack(
    "other",
    'resource "drover_environment" "ring" {\n  name  = "ring"\n  class = "batch"\n  sites = ["north"]\n}\n',
  );
  const applied = await other.run(["apply", "-auto-approve"]);
  expect(applied.code).toBe(1);
  expect(applied.stderr.replaceAll(/\s+/g, " ")).toMatch(/terraform import drover_environment/);
  expect((await other.state()).size).toBe(0);
}, 60_000);

test("data sources tell what is live", async () => {
  const looking = await bench.stack(
    "looking",
    `data "drover_site" "north" {\n  id = "north"\n}
data "drover_machine_status" "rank0" {\n  environment = "ring"\n  name        = "rank-0"\n}
output "owner" {\n  value = data.drover_site.north.owner\n}
output "memory" {\n  value = data.drover_machine_status.rank0.effective.memory_mib\n}
output "hosts" {\n  value = data.drover_site.north.hosts[*].id\n}\n`,
  );
  await looking.must(["apply", "-auto-approve"]);
  const outputs = JSON.parse((await looking.must(["output", "-json"])).stdout);
  expect([outputs.owner.value, outputs.memory.value, outputs.hosts.value]).toEqual([
    "nora",
    384,
    ["north-1", "north-2"],
  ]);
}, 60_000);

test("a machine that is gone is planned anew", async () => {
  const items = await bench.client.get<{ items: MachineView[] }>("/v1/machines", {
    query: { environment: "ring", name: "rank-1" },
  });
  const { operation } = await bench.client.call<{ operation: { id: string } }>(
    "DELETE",
    `/v1/machines/${items.items[0]?.id}`,
  );
  await bench.client.waitForOperation(operation.id);
  const { changes } = await stack.plan();
  expect(changes.filter(({ actions }) => actions.join() === "create")).toMatchObject([
    { address: "drover_machine.rank1" },
  ]);
  await stack.must(["apply", "-auto-approve"]);
  expect((await stack.plan()).code).toBe(0);
}, 60_000);

test("destroy leaves nothing at the shepherd", async () => {
  await stack.must(["destroy", "-auto-approve"]);
  for (const path of [
    "/v1/machines",
    "/v1/networks",
    "/v1/links",
    "/v1/images",
    "/v1/environments",
  ])
    expect(await bench.client.get(path)).toEqual({ items: [] });
}, 60_000);
