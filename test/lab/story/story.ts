/**
 * What the acts share: the world, a real Terraform a stack, the shepherd as a process that can be killed, its API, and
 * what was measured on the way. Raised once, for the demo and for the lab's test alike.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  EventView,
  MachineView,
  OperationView,
  Status,
  TokenAnswer,
} from "@drover/shepherd/api/contract";
import { installProvider } from "../../../provider/install.ts";
import { Daemon, must, run, until } from "./process.ts";
import { Terraform } from "./terraform.ts";
import { Miss, type Timeline } from "./timeline.ts";
import { endAdopted, raiseLab, raiseSimulated, root, type StoryWorld } from "./world.ts";

const node = process.execPath;
export const ranks = ["rank-0", "rank-1", "rank-2", "rank-3"] as const;

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Story {
  readonly world: StoryWorld;
  readonly timeline: Timeline;
  readonly ring: Terraform;
  readonly neighbour: Terraform;
  readonly client: ShepherdClient;
  /** Decisions and figures that a later act needs. */
  readonly remembered = new Map<string, string>();
  /** Ends the foreign domain that an act has started. */
  removeForeign: (() => Promise<void>) | undefined;
  private shepherd: Daemon | undefined;

  private constructor(parts: { world: StoryWorld; timeline: Timeline; cliConfig: string }) {
    this.world = parts.world;
    this.timeline = parts.timeline;
    const terraform = (directory: string) =>
      new Terraform({ directory, cliConfig: parts.cliConfig, socket: parts.world.socket });
    this.ring = terraform(join(parts.world.directory, "ring/cdktf.out/stacks/ring"));
    this.neighbour = terraform(join(parts.world.directory, "neighbour"));
    this.client = new ShepherdClient({ endpoint: `unix:${parts.world.socket}` });
  }

  static async raise(options: {
    world: "lab" | "simulated";
    name: string;
    timeline: Timeline;
  }): Promise<Story> {
    const directory = join(root, "out", `story-${options.world}-${options.name}`);
    await endAdopted(directory);
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(join(directory, "ring"), { recursive: true });
    mkdirSync(join(directory, "neighbour"), { recursive: true });
    await installProvider(join(directory, "mirror"));
    const cliConfig = join(directory, "terraform.rc");
    writeFileSync(
      cliConfig,
      `provider_installation {\n  filesystem_mirror {\n    path = ${JSON.stringify(join(directory, "mirror"))}\n  }\n}\n`,
    );
    const say = (line: string) => options.timeline.say(line);
    const world =
      options.world === "lab"
        ? await raiseLab({ name: options.name, directory, say })
        : raiseSimulated({ directory });
    const story = new Story({ world, timeline: options.timeline, cliConfig });
    await story.startShepherd();
    return story;
  }

  async startShepherd(): Promise<void> {
    this.shepherd = new Daemon(
      [
        node,
        join(root, "shepherd/cli/main.ts"),
        "shepherd",
        "--config",
        this.world.configurationFile,
      ],
      {
        logFile: join(this.world.directory, "shepherd.log"),
      },
    );
    const daemon = this.shepherd;
    this.world.adopt(daemon.pid);
    await until("the shepherd to answer", 60_000, async () => {
      if (!daemon.alive) throw new Miss(`the shepherd ended:\n${daemon.tail()}`);
      return await this.status();
    });
  }

  /** kill -9. */
  async crashShepherd(): Promise<void> {
    await this.shepherd?.crash();
  }

  /** Stops it where it stands, so that what it had begun goes on without it; then kill -9. */
  async freezeThenCrashShepherd(frozenMs: number): Promise<void> {
    this.shepherd?.freeze();
    await new Promise((resolve) => setTimeout(resolve, frozenMs));
    await this.crashShepherd();
  }

  async lower(): Promise<void> {
    await this.shepherd?.stop();
    await this.world.down();
  }

  shepherdLog(lines?: number): string {
    return this.shepherd?.tail(lines) ?? "";
  }

  // --- the shepherd's API and command ------------------------------------------------------------------------------

  async get<T>(path: string): Promise<T> {
    return await this.client.get<T>(path);
  }
  async status(): Promise<Status> {
    return await this.get<Status>("/v1/status");
  }
  async machine(name: string, environment = "ring"): Promise<MachineView> {
    const { items } = await this.get<{ items: MachineView[] }>(
      `/v1/machines?environment=${environment}&name=${name}`,
    );
    const [machine] = items;
    if (machine === undefined) throw new Miss(`no machine ${environment}/${name}`);
    return machine;
  }
  async running(): Promise<readonly OperationView[]> {
    const { items } = await this.get<{ items: OperationView[] }>("/v1/operations?active=1");
    return items;
  }
  async operation(id: string): Promise<OperationView> {
    return await this.get<OperationView>(`/v1/operations/${id}?wait_ms=0`);
  }
  /** Events after a sequence number, in order. */
  async eventsSince(seq: number): Promise<readonly EventView[]> {
    const { items } = await this.get<{ items: EventView[] }>(`/v1/events?since=${seq}&once=1`);
    return items;
  }
  async lastSeq(): Promise<number> {
    let seq = 0;
    for (;;) {
      const events = await this.eventsSince(seq);
      const last = events.at(-1);
      if (last === undefined) return seq;
      seq = last.seq;
    }
  }
  async drover(...args: readonly string[]): Promise<Ran> {
    return await this.droverAs(undefined, ...args);
  }
  /** The command with a person's token; the socket itself is the local root's. */
  async droverAs(token: string | undefined, ...args: readonly string[]): Promise<Ran> {
    return await run([node, join(root, "shepherd/cli/main.ts"), ...args], {
      env: {
        DROVER_ENDPOINT: `unix:${this.world.socket}`,
        ...(token === undefined ? {} : { DROVER_TOKEN: token }),
      },
    });
  }
  /** A new token for a named person. */
  async tokenOf(name: string, role: string): Promise<string> {
    const body = { name, role };
    const made = await this.client.call<TokenAnswer>("POST", "/v1/tokens", { body });
    return made.token;
  }

  // --- the stack -----------------------------------------------------------------------------------------------------

  /** Synthesizes the ring in its directory, where the shepherd keeps adaptations.json. */
  async synthesize(): Promise<void> {
    await must([node, join(root, "stacks/synth.ts"), join(root, "stacks/examples/ring/main.ts")], {
      cwd: join(this.world.directory, "ring"),
      env: { IMAGE_DIR: this.world.imageDirectory },
    });
  }
  get adaptationsFile(): string {
    return join(this.world.directory, "ring/adaptations.json");
  }

  // --- witnesses -----------------------------------------------------------------------------------------------------

  /** Hosts at which the witness sees a machine in any state but shut off. */
  async hostsOf(machine: string, environment = "ring"): Promise<readonly string[]> {
    const seen = await this.world.witness();
    return seen
      .filter((host) =>
        host.domains.some(
          (domain) =>
            domain.name === `drover-${environment}-${machine}` && domain.state !== "shut off",
        ),
      )
      .map((host) => host.host);
  }
}
