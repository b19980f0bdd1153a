/**
 * Times the provider under the real Terraform: start to handshake, plans without changes for 1 and 104 machines beside
 * a stack without any provider, apply and destroy of 104. Simulated sites. Run with `node test/bench/provider.ts`.
 */
import { readFileSync } from "node:fs";
import { buildProvider, bundlePath } from "@drover/provider/build";
import { PluginHost } from "../provider/conformance/plugin-host.ts";
import { Bench } from "../provider/terraform/bench.ts";

const rounds = 7;
/** What one environment's quota of the shipped policies allows. */
const machinesPerEnvironment = 8;

const middle = (values: readonly number[]) =>
  values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;

const { bytes } = await buildProvider({ nodePath: process.execPath });
console.log(`bundle: ${(bytes / 1024).toFixed(1)} KiB`);
const starts: number[] = [];
let peakKib = 0;
for (let n = 0; n < 15; n++) {
  const from = performance.now();
  const host = await PluginHost.start(bundlePath);
  starts.push(performance.now() - from);
  await host.call("GetProviderSchema");
  const status = readFileSync(`/proc/${host.child.pid}/status`, "utf8");
  peakKib = Math.max(peakKib, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
  await host.shutdown();
}
console.log(
  `start to the first connection: ${middle(starts).toFixed(0)} ms, peak ${(peakKib / 1024).toFixed(0)} MiB`,
);

const bench = await Bench.raise({ speed: 50 });
try {
  const plain = await bench.stack("plain", 'resource "terraform_data" "x" {}\n');
  await plain.must(["apply", "-auto-approve"]);
  const small = await bench.stack("small", machines("small", 1));
  await small.must(["apply", "-auto-approve"]);
  const large = await bench.stack("large", machines("large", 13));
  const applied = await large.must(["apply", "-auto-approve"]);
  const stacks = { "no provider": plain, "1 machine": small, "104 machines": large };
  const times = new Map(Object.keys(stacks).map((name) => [name, [] as number[]]));
  for (
    let n = 0;
    n < rounds;
    n++ // side by side, so that a busy machine is busy for all
  )
    for (const [name, stack] of Object.entries(stacks))
      times.get(name)?.push((await stack.plan()).ms);
  for (const [name, values] of times)
    console.log(`plan without changes, ${name}: ${seconds(middle(values))}`);
  const destroyed = await large.must(["destroy", "-auto-approve"]);
  console.log(`104 machines: apply ${seconds(applied.ms)}, destroy ${seconds(destroyed.ms)}`);
} finally {
  await bench.clear();
}

function machines(prefix: string, environments: number): string {
  const count = environments === 1 ? 1 : machinesPerEnvironment;
  const image = `resource "drover_image" "base" {
  name   = "${prefix}"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
`;
  return (
    image +
    Array.from(
      { length: environments },
      (_, n) => `resource "drover_environment" "e${n}" {
  name  = "${prefix}-${n}"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_machine" "m${n}" {
  count          = ${count}
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
