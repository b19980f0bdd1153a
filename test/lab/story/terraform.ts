/** A real Terraform (or OpenTofu) in one working directory, with our provider from a filesystem mirror. */
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Finished, must, type RunOptions, run, whyOf } from "./process.ts";

export interface PlannedChange {
  readonly address: string;
  readonly actions: readonly string[];
  readonly before: Readonly<Record<string, unknown>> | null;
  readonly after: Readonly<Record<string, unknown>> | null;
}

export class Terraform {
  readonly directory: string;
  private readonly environment: Readonly<Record<string, string>>;
  private readonly binary: string;

  constructor(options: {
    readonly directory: string;
    readonly cliConfig: string;
    readonly socket: string;
    readonly binary?: string;
  }) {
    this.directory = options.directory;
    this.binary = options.binary ?? "terraform";
    this.environment = {
      TF_CLI_CONFIG_FILE: options.cliConfig,
      CHECKPOINT_DISABLE: "1",
      TF_IN_AUTOMATION: "1",
      TF_INPUT: "0",
      DROVER_ENDPOINT: `unix:${options.socket}`,
    };
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return run([this.binary, ...args, "-no-color"], {
      cwd: this.directory,
      timeoutMs: 600_000,
      ...options,
      env: { ...this.environment, ...options.env },
    });
  }

  async must(args: readonly string[]): Promise<Finished> {
    return await must([this.binary, ...args, "-no-color"], {
      cwd: this.directory,
      timeoutMs: 600_000,
      env: this.environment,
    });
  }

  async init(): Promise<void> {
    rmSync(join(this.directory, ".terraform.lock.hcl"), { force: true }); // a rebuilt provider of one version has another checksum
    await this.must(["init"]);
  }

  /** 0 = nothing to do, 2 = changes; with the changes themselves. */
  async plan(
    args: readonly string[] = [],
  ): Promise<{ code: number; changes: readonly PlannedChange[]; ms: number; text: string }> {
    const file = join(this.directory, "story.plan");
    const planned = await this.run(["plan", "-detailed-exitcode", `-out=${file}`, ...args]);
    if (planned.code !== 0 && planned.code !== 2)
      return {
        code: planned.code,
        changes: [],
        ms: planned.ms,
        text: whyOf(planned),
      };
    const shown = JSON.parse((await this.must(["show", "-json", file])).stdout) as {
      resource_changes?: {
        address: string;
        change: {
          actions: string[];
          before: Record<string, unknown> | null;
          after: Record<string, unknown> | null;
        };
      }[];
    };
    const changes = (shown.resource_changes ?? [])
      .map((change) => ({
        address: change.address,
        actions: change.change.actions,
        before: change.change.before,
        after: change.change.after,
      }))
      .filter((change) => change.actions.join() !== "no-op");
    return { code: planned.code, changes, ms: planned.ms, text: planned.stdout + planned.stderr };
  }

  /** Resource values of the state, by address. */
  async state(): Promise<ReadonlyMap<string, Readonly<Record<string, unknown>>>> {
    const shown = JSON.parse((await this.must(["show", "-json"])).stdout) as {
      values?: {
        root_module?: { resources?: { address: string; values: Record<string, unknown> }[] };
      };
    };
    return new Map(
      (shown.values?.root_module?.resources ?? []).map((resource) => [
        resource.address,
        resource.values,
      ]),
    );
  }
}

/** Writes a CLI configuration that takes our provider from `mirror` and nothing else from anywhere. */
export function writeCliConfig(
  file: string,
  options: { readonly mirror: string; readonly address: string },
): void {
  writeFileSync(
    file,
    `provider_installation {\n  filesystem_mirror {\n    path = ${JSON.stringify(options.mirror)}\n  }\n}\n`,
  );
}

/** Lays the bundled provider out as a filesystem mirror wants it. */
export function writeMirror(
  mirror: string,
  options: { readonly address: string; readonly version: string; readonly bundle: string },
): void {
  const folder = join(mirror, options.address, options.version, "linux_amd64");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  if (!existsSync(options.bundle)) throw new Error(`${options.bundle} is missing: run make build`);
  cpSync(options.bundle, join(folder, `terraform-provider-drover_v${options.version}`));
}
