/**
 * A host is taken in while the shepherd runs, with the real Terraform: used at once, kept over a restart, changed in
 * place, and let go only when nothing is on it.
 */
import type { HostView, MachineView } from "@drover/shepherd/api/contract";
import type { HostRegistrationView } from "@drover/shepherd/api/contract-hosts";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  stack = await bench.stack("hosts", host());
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

interface Words {
  readonly name?: string;
  readonly site?: string;
  readonly address?: string;
  readonly memory?: number;
  /** Memory of the machine in MiB; absent: there is none. No host of drover.yaml lends more than 4096. */
  readonly machine?: number;
}
function host(words: Words = {}): string {
  const { name = "north-3", site = "north", address = "192.0.2.9", memory = 8192 } = words;
  return `
resource "drover_host" "more" {
  site              = "${site}"
  name              = "${name}"
  migration_address = "${address}"
  lend              = { cpu_percent = 400, memory_mib = ${memory}, disk_gib = 100 }
  timeouts          = { delete = "3s" }
}
${words.machine === undefined ? "" : machine(words.machine)}
`;
}
const machine = (memoryMib: number) => `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "it"
  class = "batch"
  sites = ["north"]
}
resource "drover_machine" "m" {
  environment_id = drover_environment.it.id
  name           = "m"
  image_id       = drover_image.base.id
  memory_mib     = ${memoryMib}
  networks       = []
}
`;
const flat = (text: string) => text.replaceAll(/[\s│╷╵]+/g, " ");
async function terraform(args: readonly string[], configuration: string) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(args);
  return { code, said: flat(stdout + stderr) };
}
const plan = (configuration: string) => terraform(["plan", "-detailed-exitcode"], configuration);
const apply = (configuration: string) => terraform(["apply", "-auto-approve"], configuration);
async function seen(name: string): Promise<HostView | undefined> {
  return await bench.client.find<HostView>(`/v1/hosts/${name}`);
}
async function machineAt(): Promise<unknown> {
  const { items } = await bench.client.get<{ items: MachineView[] }>("/v1/machines");
  return items[0]?.effective.host;
}

test.each([
  [
    "a site that there is not",
    { site: "east" },
    "site",
    "there is no site east; there are north, south",
  ],
  [
    "an address that another has",
    { address: "192.0.2.1" },
    "migration_address",
    "is the address of north-1",
  ],
  [
    "a host of drover.yaml",
    { name: "north-1" },
    "Host north-1 stands in drover.yaml",
    "Change it there",
  ],
])(
  "%s is refused, and nothing is registered",
  async (_, words, place, problem) => {
    const { code, said } = await apply(host(words));
    expect(code).toBe(1);
    expect(said).toContain(place);
    expect(said).toContain(problem);
    const { items } = await bench.client.get<{ items: HostRegistrationView[] }>(
      "/v1/host-registrations",
    );
    expect(items).toEqual([]);
  },
  60_000,
);

test("it is used as soon as it is there, and the next plan is empty", async () => {
  expect(await apply(host())).toMatchObject({ code: 0 });
  expect(await seen("north-3")).toMatchObject({
    site: "north",
    state: "up",
    lend: { memory_mib: 8192 },
  });
  expect(await apply(host({ machine: 6144 }))).toMatchObject({ code: 0 });
  expect(await machineAt()).toBe("north-3");
  expect((await plan(host({ machine: 6144 }))).code).toBe(0);
}, 120_000);

test("what it lends changes in place", async () => {
  const { code, said } = await apply(host({ memory: 7168, machine: 6144 }));
  expect([code, said]).toEqual([0, expect.stringContaining("1 changed, 0 destroyed")]);
  expect(await seen("north-3")).toMatchObject({ lend: { memory_mib: 7168 } });
}, 60_000);

test("a restart of the shepherd finds it again, with its machine", async () => {
  await bench.crashShepherd();
  await bench.start();
  await until("the host to answer", 20_000, async () => (await seen("north-3"))?.state === "up");
  expect(await machineAt()).toBe("north-3");
  expect((await plan(host({ memory: 7168, machine: 6144 }))).code).toBe(0);
}, 60_000);

test("it does not go while a machine is on it, and says which", async () => {
  const { code, said } = await apply(machine(6144));
  expect(code).toBe(1);
  expect(said).toContain("machine m");
  expect(await seen("north-3")).toMatchObject({ state: "up" });
}, 60_000);

test("drained it goes, and can be taken in and imported again", async () => {
  expect(await apply(host({ memory: 7168, machine: 256 }))).toMatchObject({ code: 0 });
  await bench.client.call("POST", "/v1/hosts/north-3/drain", { body: { reason: "it is sold" } });
  await until("the machine to leave", 60_000, async () => (await machineAt()) !== "north-3");
  expect(await apply(machine(256))).toMatchObject({ code: 0 });
  expect(await seen("north-3")).toBeUndefined();
  expect(await apply(host({ machine: 256 }))).toMatchObject({ code: 0 });
  await stack.must(["state", "rm", "drover_host.more"]);
  await stack.must(["import", "drover_host.more", "north-3"]);
  // an import knows nothing of how long the stack would wait
  const silent = host({ machine: 256 }).replace(/^ *timeouts.*\n/m, "");
  expect(silent).not.toContain("timeouts");
  expect((await plan(silent)).code).toBe(0);
  await stack.must(["destroy", "-auto-approve"]);
  const { items } = await bench.client.get<{ items: HostView[] }>("/v1/hosts");
  expect(items.map(({ id }) => id)).toEqual(["north-1", "north-2", "south-1"]);
}, 120_000);
