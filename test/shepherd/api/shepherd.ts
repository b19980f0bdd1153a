/**
 * A whole shepherd in this process, on simulated sites that the test holds in its hands: real journal, real policies,
 * real server on a unix socket, real client.
 */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  EnvironmentView,
  ImageView,
  LinkView,
  MachineBody,
  MachineView,
  Mutation,
  NetworkView,
  OperationView,
} from "@drover/shepherd/api/contract";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type Shepherd, startShepherd } from "@drover/shepherd/main";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import type { Speeds } from "@drover/shepherd/simulated/machinery";
import { createWorld, type World } from "@drover/shepherd/simulated/world";
import { type Logger, pino } from "pino";
import { minimalQcow2 } from "./qcow2-file.ts";

export interface Running {
  readonly folder: string;
  readonly world: World;
  readonly client: ShepherdClient;
  readonly endpoint: string;
  readonly shepherd: Shepherd;
  /** Stops it and starts another on the same state and the same hosts; `between` runs while none does. */
  restart(between?: () => Promise<void>): Promise<Running>;
  /** Stops it and removes its folder. */
  end(): Promise<void>;
}

const hosts = [
  { id: "north-1", site: "north", cpu: 200, memory: 1024 },
  { id: "north-2", site: "north", cpu: 200, memory: 896 },
  { id: "south-1", site: "south", cpu: 800, memory: 4096 },
];

/** `extra` are lines of drover.yaml; `speeds` make the simulated hosts slower where a test wants to come in between. */
export async function run(
  extra = "",
  slower: Partial<Speeds> = {},
  log: Logger = pino({ level: process.env["DROVER_TEST_LOG"] ?? "silent" }),
): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), "drover-api-"));
  mkdirSync(join(folder, "stack"));
  const clock = createScaledClock({ scale: 1, originMs: Date.now() });
  const world = createWorld({
    clock,
    // Times of a fast host: what is tested here is not how long things take.
    speeds: {
      callMs: 0,
      startMs: 5,
      stopMs: 5,
      copyMbps: 100_000,
      switchMs: 1,
      balloonMibPerS: 1e6,
      ...slower,
    },
    hosts: hosts.map(({ id, cpu, memory }) => ({
      id,
      cores: cpu / 100,
      memoryMib: memory,
      poolBytes: 8 * 2 ** 30,
    })),
  });
  return await start(folder, world, { extra, log });
}

async function start(
  folder: string,
  world: World,
  given: { readonly extra: string; readonly log: Logger },
): Promise<Running> {
  const { extra, log } = given;
  const configuration = readConfiguration(
    `world: simulated
state_dir: state
socket: shepherd.sock
stacks: [{ environment: ring, directory: stack }]
${extra}
sites:
${["north", "south"]
  .map(
    (site) => `  - id: ${site}
    owner: ${site}-lab
    hosts:
${hosts
  .filter((host) => host.site === site)
  .map(
    ({ id, cpu, memory }, index) =>
      `      - { id: ${id}, migration_address: 10.77.${site === "north" ? 1 : 2}.${index + 1}, lend: { cpu_percent: ${cpu}, memory_mib: ${memory}, disk_gib: 8 } }`,
  )
  .join("\n")}`,
  )
  .join("\n")}
`,
    join(folder, "drover.yaml"),
  );
  const shepherd = await startShepherd(configuration, log, (claim) => {
    const connection = world.connect(claim);
    return {
      hosts: connection.hosts,
      clock: world.clock,
      // Every port of every machine sends back what it is sent.
      lanDoor: { open: async () => new PassThrough() },
      add: ({ id, lend }) =>
        world.addHost({
          id,
          cores: Math.ceil(lend.cpuPercent / 100),
          memoryMib: lend.memoryMib,
          poolBytes: lend.diskGib * 2 ** 30,
        }),
      remove: async (id) => world.removeHost(id),
      close: async () => connection.cut(),
    };
  });
  const endpoint = `unix:${configuration.socket}`;
  return {
    folder,
    world,
    shepherd,
    endpoint,
    client: new ShepherdClient({ endpoint }),
    async restart(between = async () => undefined) {
      await shepherd.stop();
      await between();
      return await start(folder, world, given);
    },
    async end() {
      await shepherd.stop();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Calls and waits for the operation; a failed operation throws with its reason. */
export async function mutate<View>(
  { client }: Running,
  method: "PUT" | "PATCH" | "DELETE",
  path: string,
  body?: unknown,
): Promise<{ readonly object: View | null; readonly operation: OperationView | null }> {
  const answer = await client.call<Mutation<View>>(
    method,
    path,
    body === undefined ? {} : { body },
  );
  if (answer.operation === null) return answer;
  const operation = await client.waitForOperation(answer.operation.id);
  if (operation.state !== "succeeded") {
    throw new Error(`${method} ${path}: ${operation.state}: ${JSON.stringify(operation.fault)}`);
  }
  return { object: answer.object, operation };
}

export interface Ring {
  readonly environment: EnvironmentView;
  readonly network: NetworkView;
  readonly image: ImageView;
  readonly machines: readonly MachineView[];
  readonly links: readonly LinkView[];
}

/** Environment, LAN, image, and `count` ranks at north with an envelope to grow in. */
export async function declareRing(running: Running, count = 2): Promise<Ring> {
  const environment = need(
    (
      await mutate<EnvironmentView>(running, "PUT", "/v1/environments/ring", {
        class: "batch",
        sites: ["north", "south"],
      })
    ).object,
  );
  const network = need(
    (
      await mutate<NetworkView>(running, "PUT", "/v1/environments/ring/networks/lan", {
        cidr: "10.42.0.0/24",
      })
    ).object,
  );
  const image = need(
    (await mutate<ImageView>(running, "PUT", "/v1/images/ring", imageBody(running))).object,
  );
  const machines: MachineView[] = [];
  for (let index = 0; index < count; index += 1) {
    const path = `/v1/environments/ring/machines/rank-${index}`;
    const body = machineBody({ network, image }, { speaker: index === 0 });
    const { object } = await mutate<MachineView>(running, "PUT", path, body);
    machines.push(await running.client.get(`/v1/machines/${need(object).id}`));
  }
  const links: LinkView[] = [];
  if (count > 1) {
    const { object } = await mutate<LinkView>(running, "PUT", "/v1/environments/ring/links", {
      machines: ["rank-1", "rank-0"],
      rate_mbps: 100,
    });
    links.push(need(object));
  }
  return { environment, network, image, machines, links };
}

export function machineBody(
  of: { readonly network: NetworkView; readonly image: ImageView },
  more: Partial<MachineBody> = {},
): MachineBody {
  return {
    group: "rank",
    image_id: of.image.id,
    vcpus: 1,
    cpu_percent: 20,
    memory_mib: 256,
    site: "north",
    networks: [{ network_id: of.network.id }],
    adaptation: {
      mode: "auto",
      vcpus: { min: 1, max: 2 },
      cpu_percent: { min: 10, max: 60 },
      memory_mib: { min: 192, max: 512 },
      sites: ["north", "south"],
    },
    ...more,
  };
}

export function imageBody({ folder }: Pick<Running, "folder">): { source: string; sha256: string } {
  const content = minimalQcow2({});
  const source = join(folder, "base.qcow2");
  writeFileSync(source, content);
  return { source, sha256: createHash("sha256").update(content).digest("hex") };
}

export function need<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("nothing was answered");
  return value;
}
