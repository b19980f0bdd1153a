/**
 * Commands inside a machine without its network: over the lab's own virtio channel, whose unix socket lies in the
 * folder of whichever lab host runs the machine now. Tests and the demo read the truth in the guest through it.
 * Protocol: guest/lab-agent.c. A command survives a move: the same id is asked again at the new host.
 */
import { randomUUID } from "node:crypto";
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type HostLayout, hostsOf, type LabLayout } from "#lab/layout";
import { Fault } from "#model/fault";

/** Name of the virtio channel; must be among the machine's channels. */
export const labChannel = "dev.drover.lab";

export interface GuestResult {
  readonly code: number;
  /** Standard output and error together. */
  readonly stdout: string;
}
export interface GuestShell {
  /**
   * Runs a shell command in the guest; a non-zero exit is a value. Waits for a guest that still boots and follows a
   * machine that moves. Faults `lab.machine_missing`, `lab.guest_silent`.
   */
  run(command: string, options?: { readonly timeoutMs?: number }): Promise<GuestResult>;
  /** Like run, for commands that must succeed: their output, trimmed. Fault `lab.command_failed`. */
  read(command: string, options?: { readonly timeoutMs?: number }): Promise<string>;
  /** The lab host that runs the machine now; undefined while none does. */
  host(): string | undefined;
}

/** The domain's name at libvirt: `drover-<environment>-<machine>` for machines of the shepherd's. */
export function openGuest(layout: LabLayout, domain: string): GuestShell {
  const shell: GuestShell = {
    run: async (command, options) =>
      await runInGuest(layout, { domain, command, timeoutMs: options?.timeoutMs ?? 60_000 }),
    read: async (command, options) => {
      const result = await shell.run(command, options);
      if (result.code !== 0)
        throw new Fault("lab.command_failed", {
          command: `${domain}: ${command}`,
          exitCode: result.code,
          problem: result.stdout.trim(),
        });
      return result.stdout.trim();
    },
    host: () => findSockets(layout, domain)[0]?.host.id,
  };
  return shell;
}

async function runInGuest(
  layout: LabLayout,
  ask: { domain: string; command: string; timeoutMs: number },
): Promise<GuestResult> {
  const end = performance.now() + ask.timeoutMs;
  const id = randomUUID();
  const line = `${id} ${Buffer.from(ask.command).toString("base64")}\n`;
  let everFound = false;
  while (performance.now() < end) {
    // In a move two hosts hold the machine for a while; the one that does not run it stays silent.
    for (const { path } of findSockets(layout, ask.domain)) {
      everFound = true;
      const reply = await askOnce(path, {
        id,
        line,
        waitMs: Math.min(3_000, end - performance.now()),
      });
      if (reply !== undefined) return reply;
    }
    await sleep(100);
  }
  if (!everFound)
    throw new Fault("lab.machine_missing", { machine: ask.domain, channel: labChannel });
  throw new Fault("lab.guest_silent", { machine: ask.domain, timeoutMs: ask.timeoutMs });
}

/** A command over a channel whose socket is known, asked again until it is answered; undefined when nobody answers in time. */
export async function askChannel(
  path: string,
  ask: { readonly command: string; readonly timeoutMs: number },
): Promise<GuestResult | undefined> {
  const end = performance.now() + ask.timeoutMs;
  const id = randomUUID();
  const line = `${id} ${Buffer.from(ask.command).toString("base64")}\n`;
  while (performance.now() < end) {
    const waitMs = Math.min(3_000, end - performance.now());
    const reply = await askOnce(path, { id, line, waitMs });
    if (reply !== undefined) return reply;
    await sleep(100);
  }
  return undefined;
}

/** One connection, one question; undefined when the channel ends or stays silent. A slow command is asked for again by its id. */
async function askOnce(
  path: string,
  ask: { id: string; line: string; waitMs: number },
): Promise<GuestResult | undefined> {
  const connection = await connect(path);
  if (connection === undefined) return undefined;
  const { socket, release } = connection;
  try {
    return await new Promise<GuestResult | undefined>((resolve) => {
      let text = "";
      const timer = setTimeout(() => resolve(undefined), Math.max(0, ask.waitMs));
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
        const found = findReply(text, ask.id);
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(found);
      });
      for (const event of ["error", "close"]) {
        socket.on(event, () => {
          clearTimeout(timer);
          resolve(undefined);
        });
      }
      socket.write(ask.line);
    });
  } finally {
    socket.destroy();
    release();
  }
}

/** Answers to other ids, and what is left of a cut line, are passed over. */
export function findReply(text: string, id: string): GuestResult | undefined {
  for (const line of text.split("\n").slice(0, -1)) {
    const at = line.lastIndexOf(`${id} `);
    if (at < 0) continue;
    const [code = "", output = ""] = line.slice(at + id.length + 1).split(" ");
    return { code: Number(code), stdout: Buffer.from(output, "base64").toString() };
  }
  return undefined;
}

/** Through the folder's descriptor: a unix socket's path holds 107 bytes at most, and a lab's folders may be deeper. */
async function connect(path: string): Promise<{ socket: Socket; release: () => void } | undefined> {
  let folder: number;
  try {
    folder = openSync(dirname(path), "r");
  } catch {
    return undefined; // the machine has just left this host
  }
  const release = () => closeSync(folder);
  const socket = await new Promise<Socket | undefined>((resolve) => {
    const attempt = createConnection({ path: `/proc/self/fd/${folder}/${basename(path)}` });
    attempt.once("connect", () => resolve(attempt));
    attempt.once("error", () => {
      attempt.destroy();
      resolve(undefined);
    });
  });
  if (socket !== undefined) return { socket, release };
  release();
  return undefined;
}

/**
 * The channel's sockets of this machine at every host that has it, as libvirt's own status files name them (libvirt
 * shortens names in folders, so a folder's name would not be enough).
 */
function findSockets(
  layout: LabLayout,
  domain: string,
): readonly { host: HostLayout; path: string }[] {
  return hostsOf(layout).flatMap((host) => {
    const path = channelPath(join(host.folder, "run/libvirt/qemu", `${domain}.xml`));
    if (path === undefined) return [];
    const outside = path
      .replace(/^\/var\/lib\/libvirt\//, `${host.folder}/lib/`)
      .replace(/^\/run\//, `${host.folder}/run/`);
    return existsSync(outside) ? [{ host, path: outside }] : [];
  });
}

function channelPath(statusFile: string): string | undefined {
  let xml: string;
  try {
    xml = readFileSync(statusFile, "utf8");
  } catch {
    return undefined; // not at this host
  }
  const channels = xml.match(/<channel type='unix'>[\s\S]*?<\/channel>/g) ?? [];
  const ours = channels.find((channel) => channel.includes(`name='${labChannel}'`));
  return /<source mode='bind' path='([^']+)'/.exec(ours ?? "")?.[1];
}

/** Names of all machines that run at a lab host, as its libvirt's status files name them. */
export function machinesAt(host: HostLayout): readonly string[] {
  const folder = join(host.folder, "run/libvirt/qemu");
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => (name.endsWith(".xml") ? [name.slice(0, -4)] : []));
}
