/**
 * Times the provider under the real Terraform, each figure beside a rival in the same run: plans without a change for 1
 * and 100 machines beside stacks without any provider and beside a provider in Go that asks nobody (hashicorp/time, the
 * same number of resources); start to handshake; peak memory; apply and destroy of 25, 50 and 100 machines on simulated
 * sites; the script's size. `make bench-provider`.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { buildProvider, bundlePath } from "@drover/provider/build";
import { platformName } from "@drover/provider/install";
import { toolsFolder } from "../../shepherd/opa/binary.ts";
import type { Terraform } from "../lab/story/terraform.ts";
import { PluginHost } from "../provider/conformance/plugin-host.ts";
import { Bench } from "../provider/terraform/bench.ts";
import { buildGoProgram, type GoProgram } from "../tools/go-module.ts";

const rounds = 7;
const starts = 15;
const sizes = [25, 50, 100] as const;
const goalsS = { 1: 0.35, 100: 0.65 } as const;
/** What one environment's quota of the shipped policies allows; and an owner's allows 64 in all. */
const machinesPerEnvironment = 8;
const owners = 3;

/** A provider on Go's own framework, by its makers; its resources live in the state alone. */
const rival: GoProgram = {
  module: "github.com/hashicorp/terraform-provider-time",
  version: "0.14.2",
  sum: "h1:yCAHwZj3huefsLZYoVQmup6qINSWk5QrspwVBxxIVPc=",
  package: ".",
};
const rivalFile = `terraform-provider-time_v${rival.version}`;
const rivalSource = "registry.terraform.io/hashicorp/time";

const middle = (values: readonly number[]) =>
  values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;

const built = await buildProvider({ nodePath: process.execPath });
const rivalPath = join(toolsFolder(`terraform-provider-time-${rival.version}`), rivalFile);
if (!existsSync(rivalPath)) buildGoProgram(rival, rivalPath);
console.log(
  `size: ${kib(built.bytes)} (${kib(built.programBytes)} unpacked; goal 120 KiB); in Go ${kib(readFileSync(rivalPath).length)}`,
);
await timeStarts();

const bench = await Bench.raise({ speed: 50 });
try {
  const folder = join(bench.directory, "mirror", rivalSource, rival.version, platformName());
  mkdirSync(folder, { recursive: true });
  cpSync(rivalPath, join(folder, rivalFile));
  const plain = await stackOf("plain", 'resource "terraform_data" "x" {}\n');
  const stacks = {
    "no provider": plain,
    "no provider, 100 resources": await stackOf("plain-100", bare(100)),
    "1 machine": await stackOf("one", machines("one", 1)),
    "in Go, 1 resource": await stackOf("go-1", times(1)),
    "100 machines": await grown(),
    "in Go, 100 resources": await stackOf("go-100", times(100)),
  };
  await timePlans(stacks);
  const { code, peakMib } = await withPeak(() => stacks["100 machines"].run(["plan"]));
  console.log(
    `peak of a provider process while it plans 100 machines: ${peakMib} MiB (exit ${code})`,
  );
  await shrunk(stacks["100 machines"]);
} finally {
  await bench.clear();
}

async function timeStarts(): Promise<void> {
  const taken = { ours: [] as number[], rivals: [] as number[] };
  let peakKib = 0;
  for (let n = 0; n < starts; n++) {
    for (const [name, path] of [
      ["ours", bundlePath],
      ["rivals", rivalPath],
    ] as const) {
      const from = performance.now();
      const host = await PluginHost.start(path);
      taken[name].push(performance.now() - from);
      if (name === "ours") {
        await host.call("GetProviderSchema");
        peakKib = Math.max(peakKib, peakOf(String(host.child.pid)));
      }
      await host.shutdown();
    }
  }
  console.log(
    `start to the first connection: ${middle(taken.ours).toFixed(0)} ms, in Go ${middle(taken.rivals).toFixed(0)} ms; peak after the schema ${(peakKib / 1024).toFixed(0)} MiB`,
  );
}

/** Side by side, so that a busy machine is busy for all; CPU time hardly feels it. */
async function timePlans(stacks: Readonly<Record<string, Terraform>>): Promise<void> {
  const taken = new Map(
    Object.keys(stacks).map((name) => [name, { ms: [] as number[], cpuMs: [] as number[] }]),
  );
  for (let n = 0; n < rounds; n++)
    for (const [name, stack] of Object.entries(stacks)) {
      const cpuBefore = childCpuMs();
      const { code, ms, stderr } = await stack.run(["plan", "-detailed-exitcode"]);
      if (code !== 0) throw new Error(`${name}: the plan is not empty\n${stderr}`);
      taken.get(name)?.ms.push(ms);
      taken.get(name)?.cpuMs.push(childCpuMs() - cpuBefore);
    }
  const base = middle(taken.get("no provider")?.ms ?? []);
  for (const [name, { ms, cpuMs }] of taken) {
    const count = Number(/(\d+) machine/.exec(name)?.[1]) as 1 | 100;
    const goal = count in goalsS ? `, goal ${goalsS[count]} s` : "";
    console.log(
      `plan without a change, ${name}: ${seconds(middle(ms))} (${(middle(ms) / base).toFixed(1)} x no provider${goal}), CPU ${seconds(middle(cpuMs))}`,
    );
  }
}

/** CPU time of all commands that have ended, with what they started; the shepherd, which runs on, is not in it. */
function childCpuMs(): number {
  const fields = readFileSync("/proc/self/stat", "utf8").split(") ")[1]?.split(" ") ?? [];
  const ticksPerSecond = 100; // USER_HZ, the same on every Linux that Node runs on
  return ((Number(fields[13]) + Number(fields[14])) * 1000) / ticksPerSecond;
}

/** Applies up to the whole in steps, and tells the time for each machine that was added. */
async function grown(): Promise<Terraform> {
  let before = 0;
  let stack: Terraform | undefined;
  for (const size of sizes) {
    const configuration = machines("grown", size);
    if (stack === undefined) stack = await bench.stack("grown", configuration);
    else bench.write(stack, configuration);
    const { ms } = await stack.must(["apply", "-auto-approve"]);
    console.log(
      `apply from ${before} to ${size} machines: ${seconds(ms)}, ${(ms / (size - before)).toFixed(0)} ms a machine`,
    );
    before = size;
  }
  if (stack === undefined) throw new Error("no sizes");
  return stack;
}

async function shrunk(stack: Terraform): Promise<void> {
  const { ms } = await stack.must(["destroy", "-auto-approve"]);
  const size = sizes[sizes.length - 1] ?? 1;
  console.log(
    `destroy of ${size} machines: ${seconds(ms)}, ${(ms / size).toFixed(0)} ms a machine`,
  );
}

async function stackOf(name: string, configuration: string): Promise<Terraform> {
  const stack = await bench.stack(name, configuration);
  await stack.must(["apply", "-auto-approve"]);
  return stack;
}

/** The largest peak of any provider process that ran meanwhile, by a look at /proc every few milliseconds. */
async function withPeak<T extends { readonly code: number }>(work: () => Promise<T>) {
  let peakKib = 0;
  const look = setInterval(() => {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
      if (isOurs(pid)) peakKib = Math.max(peakKib, peakOf(pid));
  }, 10);
  try {
    const { code } = await work();
    return { code, peakMib: Math.round(peakKib / 1024) };
  } finally {
    clearInterval(look);
  }
}

/** Started below the bench's folder by Terraform, which calls it by a relative path. */
function isOurs(pid: string): boolean {
  if (!readProc(pid, "cmdline").includes("terraform-provider-drover")) return false;
  return attempt(() => readlinkSync(join("/proc", pid, "cwd"))).startsWith(bench.directory);
}
function peakOf(pid: string): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readProc(pid, "status"))?.[1] ?? 0);
}
function readProc(pid: string, file: string): string {
  return attempt(() => readFileSync(join("/proc", pid, file), "utf8"));
}
/** Empty for a process that has ended since. */
function attempt(read: () => string): string {
  try {
    return read();
  } catch (error) {
    if (error instanceof Error && "code" in error) return "";
    throw error;
  }
}

/** What Terraform itself takes for as many, with the resource that it brings along. */
function bare(count: number): string {
  return `resource "terraform_data" "x" {\n  count = ${count}\n  input = { vcpus = 1, memory_mib = 64 }\n}\n`;
}

function times(count: number): string {
  return `resource "time_static" "x" {\n  count = ${count}\n}\n`; // its source is the default one
}

function machines(prefix: string, count: number): string {
  const image = `resource "drover_image" "base" {
  name   = "${prefix}"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
`;
  const environments = Math.ceil(count / machinesPerEnvironment);
  return (
    image +
    Array.from(
      { length: environments },
      (_, n) => `resource "drover_environment" "e${n}" {
  name  = "${prefix}-${n}"
  owner = "team-${n % owners}"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_machine" "m${n}" {
  count          = ${Math.min(machinesPerEnvironment, count - n * machinesPerEnvironment)}
  environment_id = drover_environment.e${n}.id
  name           = "m-\${count.index}"
  image_id       = drover_image.base.id
  memory_mib     = 64
  cpu_percent    = 5
  networks       = []
}
`,
    ).join("")
  );
}
