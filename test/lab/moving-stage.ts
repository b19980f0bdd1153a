/**
 * What suites and benches of moves stand on: a lab with a WAN between its sites, a whole shepherd in this process, an
 * environment `ring` of some machines at north, the `drover` command, and a shell in each guest.
 */
import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  Explanation,
  MachineView,
  Mutation,
  NetworkView,
  OperationView,
  RequestAnswer,
} from "@drover/shepherd/api/contract";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { libvirtSocket } from "@drover/shepherd/lab/host";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { hostOf, type LabSite } from "@drover/shepherd/lab/layout";
import { must, run } from "@drover/shepherd/lab/process";
import { parseWan } from "@drover/shepherd/lab/wan";
import { type Shepherd, startShepherd } from "@drover/shepherd/main";
import type { Mib } from "@drover/shepherd/model/units";
import { pino } from "pino";

const command = join(import.meta.dirname, "../../shepherd/cli/main.ts");
const bootMs = 180_000;
/** A command follows what it asked for to its end. */
const commandMs = 600_000;

export interface MovingStage {
  readonly lab: Lab;
  readonly client: ShepherdClient;
  readonly machines: readonly MachineView[];
  rank(index: number): GuestShell;
  machine(index: number): Promise<MachineView>;
  /** Where each of them is, by host. */
  places(): Promise<readonly string[]>;
  /** The command of people, in a process of its own. */
  drover(...argv: readonly string[]): Promise<{ code: number; said: string }>;
  /** Asks for a move and waits for its end. */
  move(params: {
    readonly machine?: string;
    readonly site: string;
  }): Promise<{ answer: RequestAnswer; operation: OperationView | undefined }>;
  explain(id: string): Promise<Explanation>;
  /** The independent witness and rival. */
  virsh(
    host: string,
    ...argv: readonly string[]
  ): Promise<{ code: number; stdout: string; stderr: string }>;
  virshUri(host: string): string;
  end(): Promise<void>;
}

export async function openMovingStage(options: {
  readonly name: string;
  readonly ranks: number;
  readonly memoryMib: number;
  readonly wan?: string | undefined;
  readonly cpuPercent?: number | undefined;
  /** The lab's image, grown by so much that no guest ever reads: as an image with a distribution in it. */
  readonly unreadImageMib?: Mib | undefined;
  /** Other sites than the lab's own. */
  readonly sites?: readonly LabSite[] | undefined;
}): Promise<MovingStage> {
  const { name, ranks, memoryMib, wan } = options;
  const lab = await up({
    name,
    ...(options.sites === undefined ? {} : { sites: options.sites }),
    ...(wan === undefined ? {} : { wan: [parseWan(wan)] }),
  });
  const text = readFileSync(lab.configurationFile, "utf8");
  const configuration = readConfiguration(text, lab.configurationFile);
  let shepherd: Shepherd | undefined;
  const end = async () => {
    try {
      await shepherd?.stop();
    } finally {
      await down({ name });
    }
  };
  try {
    shepherd = await startShepherd(configuration, pino({ level: "silent" }));
    const endpoint = `unix:${configuration.socket}`;
    const client = new ShepherdClient({ endpoint });
    const made = makerOf(client);
    await client.call("PUT", "/v1/environments/ring", {
      body: { class: "batch", sites: ["north", "south"] },
    });
    const image = await made<{ id: string }>(
      "/v1/images/base",
      await imageBody(lab, options.unreadImageMib),
    );
    const network = await made<NetworkView>("/v1/environments/ring/networks/lan", {
      cidr: "10.42.0.0/24",
    });
    const rank = (index: number) => openGuest(lab.layout, `drover-ring-rank-${index}`);
    // All at once, as an apply does: they boot beside each other.
    const machines = await Promise.all(
      Array.from({ length: ranks }, async (_, index) => {
        const machine = await made<MachineView>(`/v1/environments/ring/machines/rank-${index}`, {
          image_id: image.id,
          memory_mib: memoryMib,
          cpu_percent: options.cpuPercent ?? 40,
          site: "north",
          adaptation: { mode: "auto", sites: ["north", "south"] },
          networks: [{ network_id: network.id }],
        });
        await rank(index).read("true", { timeoutMs: bootMs });
        return machine;
      }),
    );
    const machine = (index: number) =>
      client.get<MachineView>(`/v1/machines/${machines[index]?.id ?? ""}`);
    return {
      lab,
      client,
      machines,
      rank,
      machine,
      async places() {
        const all = await Promise.all(machines.map((_, index) => machine(index)));
        return all.map(({ effective }) => effective.host);
      },
      async drover(...argv) {
        const finished = await run([process.execPath, command, ...argv], {
          env: { DROVER_ENDPOINT: endpoint },
          timeoutMs: commandMs,
        });
        return { code: finished.code ?? -1, said: `${finished.stdout}${finished.stderr}` };
      },
      async move({ machine: one, site }) {
        const answer = await client.call<RequestAnswer>("POST", "/v1/requests", {
          body: {
            method: "move",
            environment: "ring",
            ...(one === undefined ? {} : { machine: one }),
            params: { site },
          },
        });
        const operation =
          answer.operation === null ? undefined : await client.waitForOperation(answer.operation);
        return { answer, operation };
      },
      explain: (id) => client.get<Explanation>(`/v1/decisions/${id}/explanation`),
      async virsh(host, ...argv) {
        const finished = await run(["virsh", "-q", "-c", uriOf(lab, host), ...argv]);
        return { code: finished.code ?? -1, stdout: finished.stdout, stderr: finished.stderr };
      },
      virshUri: (host) => uriOf(lab, host),
      end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

function uriOf(lab: Lab, host: string): string {
  return `qemu+unix:///system?socket=${libvirtSocket(hostOf(lab.layout, host))}`;
}

function makerOf(client: ShepherdClient) {
  return async <View>(path: string, body: object): Promise<View> => {
    const answer = await client.call<Mutation<View>>("PUT", path, { body, waitMs: 120_000 });
    if (answer.operation !== null) {
      const ended = await client.waitForOperation(answer.operation.id);
      if (ended.state !== "succeeded") throw new Error(JSON.stringify(ended));
    }
    if (answer.object === null) throw new Error(`${path} made nothing`);
    return answer.object;
  };
}

async function imageBody(lab: Lab, unreadMib: Mib = 0) {
  const file = (what: string) => join(lab.imageDirectory, what);
  const source =
    unreadMib === 0 ? file("base.qcow2") : await grown(file("base.qcow2"), { lab, unreadMib });
  return {
    source,
    sha256: createHash("sha256").update(readFileSync(source)).digest("hex"),
    kernel: file("kernel"),
    initrd: file("initrd"),
    cmdline: "console=ttyS0 quiet",
  };
}

/** A copy of a disk with noise behind its end, which nothing can compress or skip. */
async function grown(disk: string, { lab, unreadMib }: { lab: Lab; unreadMib: Mib }) {
  const raw = join(lab.layout.stateDirectory, "grown.raw");
  const image = join(lab.layout.stateDirectory, "grown.qcow2");
  const convert = ["qemu-img", "convert", "-q"];
  await must([...convert, "-O", "raw", disk, raw]);
  await must(["sh", "-c", `head -c ${unreadMib}M /dev/urandom >> "$0"`, raw]);
  await must([...convert, "-f", "raw", "-O", "qcow2", raw, image]);
  rmSync(raw);
  return image;
}
