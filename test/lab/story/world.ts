/**
 * The two worlds the story is played on, behind one interface: the lab (real hosts, real guests, virsh as the witness)
 * and the simulated sites. What only real guests can show stands behind `guest`; an act asks for it where it needs it.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { insideHost, libvirtSocket } from "@drover/shepherd/lab/host";
import { adoptProcess, down, type Lab, openLab, up } from "@drover/shepherd/lab/lab";
import type { LabSite } from "@drover/shepherd/lab/layout";
import { identify, killAll, type ProcessIdentity } from "@drover/shepherd/lab/process";
import { qcow2 } from "../../shepherd/api/qcow2-file.ts";
import { longestStopMs } from "../ticker.ts";
import { must, run } from "./process.ts";
import { Miss } from "./timeline.ts";

export const root = join(import.meta.dirname, "../../..");
const policies = join(root, "policies/data");

/**
 * What the hosts lend, sized so that the story has its turns: neighbour's machine fits only north-2 and fills it, so the
 * ring's three northern ranks begin on north-1; each later ask then has exactly one place to go (acts 4 and 5).
 */
export const lends = {
  "north-1": { cpu_percent: 200, memory_mib: 1000, disk_gib: 8 },
  "north-2": { cpu_percent: 200, memory_mib: 1180, disk_gib: 8 },
  "south-1": { cpu_percent: 800, memory_mib: 4096, disk_gib: 16 },
} as const;

export interface Ask {
  readonly method: "resize" | "release" | "status" | "move" | "rate";
  readonly params: Readonly<Record<string, string | number>>;
}
export interface Answer {
  /** drover-guest's exit code: 0 granted, 3 denied, 4 pending, 5 partial. */
  readonly code: number;
  readonly result: Readonly<Record<string, unknown>>;
}
/** What an independent witness sees of a host: `virsh` at the lab, the simulation's own state there. */
export interface Witnessed {
  readonly host: string;
  readonly domains: readonly { readonly name: string; readonly state: string }[];
  readonly volumes: readonly string[];
  /** Bridges, VXLANs, tc and nft objects that carry our prefix. */
  readonly network: readonly string[];
}

export interface StoryWorld {
  readonly kind: "lab" | "simulated";
  readonly directory: string;
  readonly configurationFile: string;
  readonly socket: string;
  readonly imageDirectory: string;
  /** A shell inside a machine of `ring` or `neighbour`; undefined where guests are simulated. */
  guest(machine: string, environment?: string): GuestShell | undefined;
  ask(machine: string, ask: Ask, environment?: string): Promise<Answer>;
  /** What the guest itself has now. */
  guestMemoryMib(machine: string, environment?: string): Promise<number>;
  witness(): Promise<readonly Witnessed[]>;
  /** State of a machine's domain at one host; quick enough to catch the moment of a switch-over. */
  stateAt(host: string, machine: string): Promise<string>;
  /** Remembers a process that has to end with the world, also when the story is killed. */
  adopt(pid: number): void;
  /** Changes a machine's memory behind the shepherd's back. */
  setMemoryBehind(machine: string, memoryMib: number): Promise<void>;
  /** Starts a domain that is not ours; returns how to remove it. */
  startForeign(host: string): Promise<() => Promise<void>>;
  /**
   * The rival: a twin of a machine (same memory, disk base, CPU cap) moved once by `virsh migrate --copy-storage-all`.
   * Undefined where there is no virsh to compare with.
   */
  moveTwin(options: {
    machine: string;
    from: string;
    to: string;
    memoryMib: number;
  }): Promise<{ seconds: number; longestStopMs: number } | undefined>;
  down(): Promise<void>;
}

export const foreignName = "foreign-accounting";
const domainOf = (machine: string, environment: string) => `drover-${environment}-${machine}`;

// --- the lab ----------------------------------------------------------------------------------------------------------

export async function raiseLab(options: {
  name: string;
  directory: string;
  say: (line: string) => void;
}): Promise<StoryWorld> {
  const place = { name: options.name };
  const sites: LabSite[] = [
    {
      id: "north",
      owner: "north-lab",
      policy: join(policies, "site-north"),
      hosts: [lab("north-1"), lab("north-2")],
    },
    {
      id: "south",
      owner: "south-lab",
      policy: join(policies, "site-south"),
      hosts: [lab("south-1")],
    },
  ];
  const socket = join(options.directory, "shepherd.sock");
  const raised = await up({
    ...place,
    sites,
    socket,
    stacks: [{ environment: "ring", directory: join(options.directory, "ring") }],
    onProgress: options.say,
  });
  return labWorld(raised, { ...place, directory: options.directory, socket });
}

function lab(id: keyof typeof lends) {
  const lend = lends[id];
  return {
    id,
    lend: { cpuPercent: lend.cpu_percent, memoryMib: lend.memory_mib, diskGib: lend.disk_gib },
  };
}

function labWorld(
  raised: Lab,
  options: { name: string; directory: string; socket: string },
): StoryWorld {
  const state = openLab({ name: options.name });
  const onHost = (host: string, argv: readonly string[]) => {
    const anchor = state.hosts[host]?.anchor;
    if (anchor === undefined) throw new Miss(`no lab host ${host}`);
    return [...insideHost(anchor), ...argv];
  };
  const hosts = Object.keys(state.hosts).sort();
  const guest = (machine: string, environment = "ring") =>
    openGuest(raised.layout, domainOf(machine, environment));
  const look =
    "virsh -q list --all; echo ==; virsh -q pool-refresh drover >/dev/null; virsh -q vol-list drover; echo ==; ip -j link; echo ==; nft list tables";
  const witnessHost = async (host: string): Promise<Witnessed> => {
    const { stdout } = await must(onHost(host, ["sh", "-c", look]), { timeoutMs: 30_000 });
    const [domains = "", volumes = "", links = "[]", tables = ""] = stdout.split("==\n");
    const lines = (text: string) => text.split("\n").filter((line) => line.trim() !== "");
    const ours = (JSON.parse(links) as { ifname: string }[])
      .map((link) => link.ifname)
      .filter((name) => name.startsWith("dv"));
    return {
      host,
      domains: lines(domains).map((line) => {
        const [, name = "", ...state] = line.trim().split(/\s+/);
        return { name, state: state.join(" ") };
      }),
      volumes: lines(volumes).map((line) => line.trim().split(/\s+/)[0] ?? ""),
      network: [...ours, ...lines(tables).filter((line) => line.includes("drover"))],
    };
  };
  return {
    kind: "lab",
    directory: options.directory,
    configurationFile: raised.configurationFile,
    socket: options.socket,
    imageDirectory: raised.imageDirectory,
    guest,
    async ask(machine, ask, environment = "ring") {
      const words = Object.entries(ask.params).map(([key, value]) => {
        const option = { lease_s: "for", site: "to", peer: "to" }[key] ?? key.replaceAll("_", "-");
        return `--${option} ${key === "lease_s" ? `${value}s` : `'${value}'`}`;
      });
      const ran = await guest(machine, environment).run(
        `drover-guest ${ask.method} ${words.join(" ")} --json`,
        { timeoutMs: 180_000 },
      );
      const line = ran.stdout.split("\n").findLast((text) => text.startsWith("{"));
      if (line === undefined)
        throw new Miss(`drover-guest at ${machine} ended with ${ran.code}: ${ran.stdout}`);
      const message = JSON.parse(line) as Record<string, unknown>;
      return { code: ran.code, result: resultOf(message) };
    },
    guestMemoryMib: async (machine, environment) =>
      Number(await guest(machine, environment).read("awk '/MemTotal/{print $2}' /proc/meminfo")) /
      1024,
    witness: async () => await Promise.all(hosts.map(witnessHost)),
    stateAt: async (host, machine) =>
      (await run(onHost(host, ["virsh", "domstate", domainOf(machine, "ring")]))).stdout.trim(),
    adopt: (pid) => adoptProcess({ name: options.name, pid }),
    async setMemoryBehind(machine, memoryMib) {
      const host = guest(machine).host();
      if (host === undefined) throw new Miss(`${machine} runs nowhere`);
      await must(
        onHost(host, ["virsh", "setmem", domainOf(machine, "ring"), `${memoryMib}M`, "--live"]),
      );
    },
    async startForeign(host) {
      const image = join(options.directory, "foreign.xml");
      // Written where the host's mount namespace sees it: everything but libvirt's own folders is shared.
      writeFileSync(
        image,
        `<domain type="qemu"><name>${foreignName}</name><memory unit="MiB">128</memory><vcpu>1</vcpu><features><acpi/></features>
<os><type arch="x86_64" machine="q35">hvm</type><kernel>${raised.imageDirectory}/kernel</kernel><initrd>${raised.imageDirectory}/initrd</initrd><cmdline>quiet</cmdline></os>
<cputune><period>100000</period><quota>5000</quota></cputune><devices/></domain>\n`,
      );
      await must(onHost(host, ["virsh", "define", image]));
      await must(onHost(host, ["virsh", "start", foreignName]));
      return async () => {
        await run(onHost(host, ["virsh", "destroy", foreignName]));
        await run(onHost(host, ["virsh", "undefine", foreignName]));
      };
    },
    async moveTwin({ machine, from, to, memoryMib }) {
      const twin = "virsh-twin";
      const pool = "/var/lib/libvirt/images";
      const at = (host: string) => {
        const layout = raised.layout.sites
          .flatMap((site) => site.hosts)
          .find(({ id }) => id === host);
        if (layout === undefined) throw new Miss(`no lab host ${host}`);
        return {
          address: layout.address,
          uri: `qemu+unix:///system?socket=${libvirtSocket(layout)}`,
        };
      };
      const home = guest(machine).host() ?? "";
      const xml = (
        await must(onHost(home, ["virsh", "dumpxml", "--inactive", domainOf(machine, "ring")]))
      ).stdout
        .replace(/<name>.*<\/name>/, `<name>${twin}</name>`)
        .replace(/<uuid>.*<\/uuid>/, "")
        .replace(/<metadata>[\s\S]*?<\/metadata>/, "")
        .replace(/<interface[\s\S]*?<\/interface>/, "")
        .replace(/drover-[0-9a-f-]{36}\.qcow2/, `${twin}.qcow2`)
        .replace(
          /<currentMemory unit='KiB'>\d+</,
          `<currentMemory unit='KiB'>${memoryMib * 1024}<`,
        );
      const file = join(options.directory, "twin.xml");
      writeFileSync(file, xml);
      const volumes = (await witnessHost(from)).volumes;
      const base = volumes.find((volume) => /^drover-[0-9a-f]{64}\.qcow2$/.test(volume));
      if (base === undefined) throw new Miss(`no image base at ${from}`);
      await must(
        onHost(from, [
          "qemu-img",
          "create",
          "-q",
          "-f",
          "qcow2",
          "-F",
          "qcow2",
          "-b",
          `${pool}/${base}`,
          `${pool}/${twin}.qcow2`,
        ]),
      );
      try {
        await must(onHost(from, ["virsh", "-q", "pool-refresh", "drover"]));
        await must(onHost(from, ["virsh", "define", file]));
        await must(onHost(from, ["virsh", "start", twin]));
        const inside = openGuest(raised.layout, twin);
        await inside.read(
          "head -c 8388608 /dev/urandom > /work/file; sync; (speed 120000 >/dev/null &) ; touch /run/ticker.reset",
          { timeoutMs: 90_000 },
        );
        const moved = await must(
          [
            "virsh",
            "-c",
            at(from).uri,
            "migrate",
            "--live",
            "--copy-storage-all",
            "--persistent",
            "--undefinesource",
            "--migrateuri",
            `tcp://${at(to).address}`,
            twin,
            at(to).uri,
          ],
          { timeoutMs: 180_000 },
        );
        return { seconds: moved.ms / 1000, longestStopMs: await longestStopMs(inside) };
      } finally {
        for (const host of [from, to]) {
          await run(onHost(host, ["virsh", "destroy", twin]));
          await run(onHost(host, ["virsh", "undefine", twin]));
          await run(onHost(host, ["virsh", "-q", "pool-refresh", "drover"]));
          await run(onHost(host, ["virsh", "vol-delete", "--pool", "drover", `${twin}.qcow2`]));
        }
      }
    },
    down: async () => {
      await down({ name: options.name });
    },
  };
}

// --- simulated sites --------------------------------------------------------------------------------------------------

export function raiseSimulated(options: { directory: string }): StoryWorld {
  const state = join(options.directory, "state");
  rmSync(state, { recursive: true, force: true });
  const imageDirectory = join(options.directory, "image");
  mkdirSync(imageDirectory, { recursive: true });
  writeFileSync(join(imageDirectory, "base.qcow2"), qcow2({ virtualBytes: 128 * 1024 * 1024 }));
  for (const name of ["kernel", "initrd"])
    writeFileSync(join(imageDirectory, name), `${name} of a simulated guest\n`);
  const socket = join(options.directory, "shepherd.sock");
  const configurationFile = join(options.directory, "drover.yaml");
  const host = (id: keyof typeof lends, address: string) =>
    `      - { id: ${id}, migration_address: ${address}, lend: ${JSON.stringify(lends[id])} }`;
  writeFileSync(
    configurationFile,
    `world: simulated
state_dir: ${state}
socket: ${socket}
stacks:
  - { environment: ring, directory: ${join(options.directory, "ring")} }
policies:
  operator: ${join(policies, "operator")}
  owners: { "*": ${join(policies, "owner")} }
sites:
  - id: north
    owner: north-lab
    policy: ${join(policies, "site-north")}
    hosts:
${host("north-1", "10.77.1.11")}
${host("north-2", "10.77.1.12")}
  - id: south
    owner: south-lab
    policy: ${join(policies, "site-south")}
    hosts:
${host("south-1", "10.77.2.11")}
`,
  );
  const guests = join(state, "guests");
  const control = (command: Readonly<Record<string, unknown>>) =>
    exchange(join(guests, "control.sock"), command);
  const witness = async (): Promise<readonly Witnessed[]> => {
    const { result } = (await control({ method: "hosts" })) as {
      result: { id: string; domains: Witnessed["domains"]; volumes: string[]; bridges: string[] }[];
    };
    return result.map((seen) => ({
      host: seen.id,
      domains: seen.domains,
      volumes: seen.volumes,
      network: seen.bridges,
    }));
  };
  let asks = 0;
  return {
    kind: "simulated",
    directory: options.directory,
    configurationFile,
    socket,
    imageDirectory,
    guest: () => undefined,
    async ask(machine, ask, environment = "ring") {
      asks += 1;
      const line = { jsonrpc: "2.0", id: `story-${asks}`, method: ask.method, params: ask.params };
      const message = await exchange(
        join(guests, `${domainOf(machine, environment)}.sock`),
        line,
        isFinal,
      );
      const result = resultOf(message);
      const code =
        { granted: 0, denied: 3, pending: 4, partial: 5 }[String(result["verdict"])] ?? 1;
      return { code, result };
    },
    async guestMemoryMib(machine, environment = "ring") {
      const seen = await control({ method: "guest", name: domainOf(machine, environment) });
      return (seen["result"] as { memoryMib: number }).memoryMib;
    },
    witness,
    async stateAt(host, machine) {
      const seen = (await witness()).find((each) => each.host === host);
      return seen?.domains.find(({ name }) => name === domainOf(machine, "ring"))?.state ?? "";
    },
    adopt: (pid) => writeFileSync(adoptedFile(options.directory), JSON.stringify(identify(pid))),
    async setMemoryBehind(machine, memoryMib) {
      const seen = await witness();
      const name = domainOf(machine, "ring");
      const at = seen.find((each) => each.domains.some((domain) => domain.name === name));
      await control({ method: "set_memory", host: at?.host, name, memory_mib: memoryMib });
    },
    async startForeign(at) {
      await control({
        method: "start_foreign",
        host: at,
        id: "6f0c6f1e-0000-4000-8000-000000000001",
        name: foreignName,
        vcpus: 1,
        memory_mib: 128,
      });
      return async () => {
        await control({ method: "stop_foreign", host: at, name: foreignName });
      };
    },
    moveTwin: async () => undefined,
    down: async () => undefined,
  };
}

/** The result in a message: of an answer, or of the progress that told the end of slow work. */
export function resultOf(message: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const body = (message["params"] ?? message) as Record<string, unknown>;
  return (body["result"] ?? body) as Record<string, unknown>;
}

/** The answer, or what slow work ended with: `pending` and progress on the way are passed over. */
function isFinal(answer: Record<string, unknown>): boolean {
  if (answer["method"] === "progress") {
    return (answer["params"] as Record<string, unknown>)["final"] === true;
  }
  const result = answer["result"] as Record<string, unknown> | undefined;
  return answer["error"] !== undefined || (result !== undefined && result["verdict"] !== "pending");
}

const adoptedFile = (directory: string) => join(directory, "shepherd.pid");

/** Ends the shepherd that a killed story on simulated sites has left; the lab does this for its own. */
export async function endAdopted(directory: string): Promise<void> {
  if (!existsSync(adoptedFile(directory))) return;
  await killAll([JSON.parse(readFileSync(adoptedFile(directory), "utf8")) as ProcessIdentity]);
}

/** One line in, the first fitting line out. */
function exchange(
  path: string,
  message: Readonly<Record<string, unknown>>,
  fits: (answer: Record<string, unknown>) => boolean = () => true,
): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const text = `${JSON.stringify(message)}\n`;
    // As drover-guest does: the same id again, until somebody listens at the port (a move has cut the channel).
    const again = setInterval(() => socket.write(text), 3_000);
    const timer = setTimeout(() => socket.destroy(new Miss(`no answer at ${path}`)), 60_000);
    const lines = createInterface({ input: socket });
    for (const emitter of [socket, lines]) emitter.on("error", reject);
    socket.on("close", () => {
      clearTimeout(timer);
      clearInterval(again);
    });
    lines.on("line", (line) => {
      const answer = JSON.parse(line) as Record<string, unknown>;
      if (!fits(answer)) return;
      resolve(answer);
      socket.end();
    });
    socket.write(text);
  });
}

export function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, "utf8"));
}
