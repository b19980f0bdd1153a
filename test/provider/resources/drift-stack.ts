/**
 * One small stack in two languages for the drift table: two machines and a link, the first machine as given. The HCL text
 * and the CDKTF program say the same; either is written, planned and applied by the real Terraform.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineView, RequestAnswer } from "@drover/shepherd/api/contract";
import { must } from "../../lab/story/process.ts";
import { Terraform } from "../../lab/story/terraform.ts";
import type { Bench } from "../terraform/bench.ts";

const root = join(import.meta.dirname, "..", "..", "..");

/** What a row edits; everything else is as in `declared`. */
export interface Declaration {
  /** Null: the stack is silent about it. */
  readonly vcpus: number | null;
  readonly cpuPercent: number;
  readonly cpuMax: number;
  readonly memoryMib: number;
  readonly site: string;
  readonly class: string;
  readonly mode: "auto" | "pinned";
  readonly pinned: readonly ("cpuPercent" | "site")[];
  readonly rateMbps: number;
  /** Lines as `data.drover_adaptations` prints them, for the first machine. */
  readonly adopted: string;
}
export const declared: Declaration = {
  vcpus: 1,
  cpuPercent: 20,
  cpuMax: 60,
  memoryMib: 256,
  site: "north",
  class: "batch",
  mode: "auto",
  pinned: [],
  rateMbps: 100,
  adopted: "",
};

export interface DriftStack {
  readonly terraform: Terraform;
  /** Addresses of the first machine, and of the link. */
  readonly machine: string;
  readonly link: string;
  /** Name of its environment at the shepherd. */
  readonly environment: string;
  /** `hcl` or `cdktf`: which of the printed patches it takes. */
  readonly language: "hcl" | "cdktf";
  write(edit?: Partial<Declaration>): Promise<void>;
}

export async function hclStack(bench: Bench, environment: string): Promise<DriftStack> {
  const terraform = await bench.stack(environment, "");
  return {
    terraform,
    machine: "drover_machine.rank0",
    link: "drover_link.r0_r1",
    environment,
    language: "hcl",
    write: async (edit) =>
      bench.write(terraform, hclText(bench, environment, { ...declared, ...edit })),
  };
}

function hclText(bench: Bench, environment: string, of: Declaration): string {
  const names = { cpuPercent: "cpu_percent", site: "site" } as const;
  const lines = [
    ...(of.vcpus === null ? [] : [`vcpus = ${of.vcpus}`]),
    `cpu_percent = ${of.cpuPercent}`,
    `memory_mib = ${of.memoryMib}`,
    `site = "${of.site}"`,
  ];
  // As a user pastes them: an adopted line takes the place of the one that stood there.
  const adopted = of.adopted.split("\n").filter((line) => line !== "");
  const key = (line: string) => line.split("=")[0]?.trim();
  const kept = lines.filter((line) => !adopted.some((other) => key(other) === key(line)));
  return `
resource "drover_image" "base" {
  name   = "${environment}"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "ring" {
  name  = "${environment}"
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
  class          = "${of.class}"
  image_id       = drover_image.base.id
  networks       = [{ network_id = drover_network.lan.id, address = "10.42.0.10" }]
  ${[...kept, ...adopted].join("\n  ")}
  adaptation = {
    mode        = "${of.mode}"
    cpu_percent = { min = 10, max = ${of.cpuMax} }
    memory_mib  = { min = 192, max = 1024 }
    sites       = ["north", "south"]
    ${of.pinned.length === 0 ? "" : `pinned_attributes = [${of.pinned.map((name) => `"${names[name]}"`).join(", ")}]`}
  }
}
resource "drover_machine" "rank1" {
  environment_id = drover_environment.ring.id
  name           = "rank-1"
  image_id       = drover_image.base.id
  networks       = [{ network_id = drover_network.lan.id, address = "10.42.0.11" }]
  # Refers to the other's baselines: an adaptation of that one is no change of this one.
  cpu_percent = drover_machine.rank0.cpu_percent
  site        = drover_machine.rank0.site
}
resource "drover_link" "r0_r1" {
  environment_id = drover_environment.ring.id
  machines       = [drover_machine.rank0.name, drover_machine.rank1.name]
  rate_mbps      = ${of.rateMbps}
  latency        = "low"
  burst_kib      = 64
}
`;
}

export async function cdktfStack(bench: Bench, environment: string): Promise<DriftStack> {
  const directory = join(bench.directory, environment);
  mkdirSync(directory);
  const program = join(directory, "main.ts");
  const write = async (edit?: Partial<Declaration>) => {
    writeFileSync(program, cdktfText(bench, environment, { ...declared, ...edit }));
    await must([process.execPath, join(root, "stacks/synth.ts"), program], { cwd: directory });
  };
  await write();
  const terraform = new Terraform({
    directory: join(directory, "cdktf.out", "stacks", environment),
    cliConfig: bench.cliConfig,
    socket: bench.socket,
  });
  await terraform.init();
  return {
    terraform,
    machine: `drover_machine.${environment}_rank-0`,
    link: `drover_link.${environment}_rank-0--rank-1`,
    environment,
    language: "cdktf",
    write,
  };
}

function cdktfText(bench: Bench, environment: string, of: Declaration): string {
  return `
import { bindings, Environment, Rate, Size } from "@drover/stacks";
import { App, LocalBackend, TerraformStack } from "cdktf";

const app = new App({
  context: { targetVersions: { terraform: ">=1.11.0", opentofu: ">=1.11.0" } },
});
const stack = new TerraformStack(app, "${environment}");
new LocalBackend(stack, { path: "terraform.tfstate" });
new bindings.provider.DroverProvider(stack, "drover");
const image = new bindings.image.Image(stack, "image", {
  name: "${environment}",
  source: "${bench.image.path}",
  sha256: "${bench.image.sha256}",
});
const ring = new Environment(stack, "${environment}", {
  class: "batch",
  sites: ["north", "south"],
  cidr: "10.42.0.0/24",
  baselines: {
    ${of.adopted}
  },
});
ring.machine("rank-0", {
  image,
  ${of.vcpus === null ? "" : `vcpus: ${of.vcpus},`}
  cpuPercent: ${of.cpuPercent},
  memory: Size.mebibytes(${of.memoryMib}),
  class: "${of.class}",
  site: () => "${of.site}",
  adaptation: {
    mode: "${of.mode}",
    ${of.pinned.length === 0 ? "" : `pinned: ${JSON.stringify(of.pinned)},`}
    cpuPercent: { min: 10, max: ${of.cpuMax} },
    memory: { min: Size.mebibytes(192), max: Size.mebibytes(1024) },
  },
});
ring.machine("rank-1", { image, site: () => "north" });
ring.link([["rank-0", "rank-1"]], {
  rate: Rate.mbps(${of.rateMbps}),
  latency: "low",
  burst: Size.mebibytes(1),
});
ring.linkToLan(["rank-0"], { rate: Rate.mbps(50) });
app.synth();
`;
}

/** The live values of the first machine, as its host says. */
export async function live(bench: Bench, of: DriftStack): Promise<MachineView["effective"]> {
  const { items } = await bench.client.get<{ items: readonly MachineView[] }>("/v1/machines", {
    query: { environment: of.environment, name: "rank-0" },
  });
  const [view] = items;
  if (view === undefined) throw new Error(`there is no rank-0 in ${of.environment}`);
  return view.effective;
}

/** Asks as an operator, and waits until it is done. */
export async function ask(
  bench: Bench,
  of: DriftStack,
  body: { readonly method: string; readonly params: object },
): Promise<RequestAnswer> {
  return await bench.client.call<RequestAnswer>("POST", "/v1/requests", {
    query: { wait_ms: 30_000 },
    waitMs: 30_000,
    body: { environment: of.environment, machine: "rank-0", ...body },
  });
}

/** Whether Terraform has nothing to do. */
export async function isClean(of: DriftStack): Promise<boolean> {
  const { code, stdout, stderr } = await of.terraform.run(["plan", "-detailed-exitcode"]);
  if (code === 1) throw new Error(stderr);
  if (code === 2) console.error(stdout);
  return code === 0;
}

/** `name: before -> after` of what a plan would change, by address; `effective` by its own fields. */
export async function planned(of: DriftStack): Promise<readonly string[]> {
  const { code, changes, text } = await of.terraform.plan();
  if (code === 1) throw new Error(text);
  return changes.flatMap(({ address, before, after }) =>
    differences(before ?? {}, after ?? {}).map((line) => `${address} ${line}`),
  );
}

function differences(before: object, after: object): readonly string[] {
  const left = before as Readonly<Record<string, unknown>>;
  const right = after as Readonly<Record<string, unknown>>;
  return Object.keys({ ...left, ...right })
    .filter((name) => name !== "ways") // told with what changes
    .filter((name) => JSON.stringify(left[name]) !== JSON.stringify(right[name]))
    .flatMap((name) =>
      name === "effective"
        ? differences(left[name] as object, right[name] as object)
            .filter((line) => !line.endsWith("-> undefined")) // known after apply
            .map((line) => `effective.${line}`)
        : name === "adaptation"
          ? [name]
          : [`${name}: ${JSON.stringify(left[name])} -> ${JSON.stringify(right[name])}`],
    );
}
