/**
 * A bench for provider tests: the real shepherd as a process on the simulated world, the real Terraform with the
 * provider from a filesystem mirror, in one temporary folder. Behind the shepherd's back the world is changed in its
 * file while the shepherd is away.
 */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installProvider } from "@drover/provider/install";
import { providerAddress } from "@drover/provider/plugin/address";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { WorldData } from "@drover/shepherd/simulated/data";
import { Daemon, until } from "../../lab/story/process.ts";
import { Terraform } from "../../lab/story/terraform.ts";
import { minimalQcow2 } from "../../shepherd/api/qcow2-file.ts";

const checkout = join(import.meta.dirname, "..", "..", "..");

export class Bench {
  readonly directory: string;
  readonly socket: string;
  readonly image: { readonly path: string; readonly sha256: string };
  readonly client: ShepherdClient;
  private daemon: Daemon | undefined;

  private constructor(directory: string) {
    this.directory = directory;
    this.socket = join(directory, "s.sock");
    const content = minimalQcow2({});
    const path = join(directory, "base.qcow2");
    writeFileSync(path, content);
    this.image = { path, sha256: createHash("sha256").update(content).digest("hex") };
    this.client = new ShepherdClient({ endpoint: `unix:${this.socket}` });
  }

  /**
   * Two sites: north with two hosts, south with one. `speed`: how much faster than time the world runs. `southPolicy`: the
   * data that south's owner puts in force instead of the shipped.
   */
  static async raise(options: {
    readonly speed: number;
    readonly southPolicy?: string;
  }): Promise<Bench> {
    const bench = new Bench(mkdtempSync(join(tmpdir(), "drover-bench-")));
    await installProvider(join(bench.directory, "mirror"));
    const mirror = JSON.stringify(join(bench.directory, "mirror"));
    writeFileSync(
      bench.cliConfig,
      `provider_installation {\n  filesystem_mirror {\n    path = ${mirror}\n  }\n}\n`,
    );
    let south = "";
    if (options.southPolicy !== undefined) {
      mkdirSync(join(bench.directory, "south-policy"));
      writeFileSync(join(bench.directory, "south-policy", "data.yaml"), options.southPolicy);
      south = "    policy: south-policy\n";
    }
    const host = (id: string, number: number) =>
      `      - { id: ${id}, migration_address: 192.0.2.${number}, lend: { cpu_percent: 400, memory_mib: 4096, disk_gib: 100 } }\n`;
    writeFileSync(
      join(bench.directory, "drover.yaml"),
      `world: simulated\nsimulated_speed: ${options.speed}\nstate_dir: state\nsocket: s.sock\nsites:\n` +
        `  - id: north\n    owner: nora\n    hosts:\n${host("north-1", 1)}${host("north-2", 2)}` +
        `  - id: south\n    owner: sam\n${south}    hosts:\n${host("south-1", 3)}`,
    );
    mkdirSync(join(bench.directory, "state"));
    await bench.start();
    return bench;
  }

  get cliConfig(): string {
    return join(this.directory, "cli.tfrc");
  }

  async start(): Promise<void> {
    const daemon = new Daemon(
      [
        process.execPath,
        join(checkout, "shepherd/cli/main.ts"),
        "shepherd",
        "--config",
        join(this.directory, "drover.yaml"),
      ],
      { logFile: join(this.directory, "shepherd.log") },
    );
    this.daemon = daemon;
    try {
      await until("the shepherd to answer", 30_000, async () => {
        await this.client.get("/v1/status");
        return true;
      });
    } catch (cause) {
      await daemon.crash();
      throw new Error(`The shepherd did not start; its log ends:\n${daemon.tail()}`, { cause });
    }
  }

  async crashShepherd(): Promise<void> {
    await this.daemon?.crash();
  }

  /** Stops the shepherd, changes the world's file, starts it again. */
  async behindItsBack(change: (world: WorldData) => void): Promise<void> {
    await this.daemon?.stop();
    const file = join(this.directory, "state", "simulated.json");
    const world = JSON.parse(readFileSync(file, "utf8")) as WorldData;
    change(world);
    writeFileSync(file, JSON.stringify(world));
    await this.start();
  }

  /** A working directory with this configuration, initialized. `binary`: Terraform unless OpenTofu is named. */
  async stack(
    name: string,
    configuration: string,
    options: { readonly binary?: string } = {},
  ): Promise<Terraform> {
    const directory = join(this.directory, name);
    mkdirSync(directory);
    const { cliConfig, socket } = this;
    const terraform = new Terraform({ directory, cliConfig, socket, ...options });
    this.write(terraform, configuration);
    await terraform.init();
    return terraform;
  }

  write(terraform: Terraform, configuration: string): void {
    writeFileSync(
      join(terraform.directory, "main.tf"),
      `terraform {\n  required_providers {\n    drover = { source = "${providerAddress}" }\n  }\n}\n${configuration}`,
    );
  }

  async clear(): Promise<void> {
    await this.daemon?.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
