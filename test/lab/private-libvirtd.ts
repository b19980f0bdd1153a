/**
 * A libvirtd of the test's own: private mount namespace, own run, lib, cache, log and configuration folders, own
 * sockets. Started and stopped by process id. Needs root. For RPC tests that need a daemon but no guests or sites.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface PrivateLibvirtd {
  readonly folder: string;
  readonly socketPath: string;
  /** Kills the daemon at once, as a crash would. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Stops the daemon and removes its folder. */
  stop(): Promise<void>;
}

const bound = {
  run: "/run/libvirt",
  lib: "/var/lib/libvirt",
  cache: "/var/cache/libvirt",
  log: "/var/log/libvirt",
  etc: "/etc/libvirt",
};

export interface PrivateLibvirtdOptions {
  /** Lines of libvirtd.conf beside the usual ones; without any, it listens on its unix sockets only. */
  readonly settings?: readonly string[];
  /** More of libvirtd's arguments, such as `--listen`. */
  readonly arguments?: readonly string[];
}

export async function startPrivateLibvirtd(
  options: PrivateLibvirtdOptions = {},
): Promise<PrivateLibvirtd> {
  const folder = mkdtempSync(join(tmpdir(), "drover-libvirtd-"));
  for (const name of Object.keys(bound)) mkdirSync(join(folder, name));
  for (const path of Object.values(bound)) mkdirSync(path, { recursive: true });
  // Nothing of the machine's own configuration: its domains, networks and pools must never start here.
  const settings = [
    `host_uuid = "${randomUUID()}"`,
    `unix_sock_dir = "${join(folder, "run")}"`,
    'auth_unix_rw = "none"',
    'auth_unix_ro = "none"',
    ...(options.settings ?? ["listen_tls = 0"]),
  ];
  writeFileSync(join(folder, "etc/libvirtd.conf"), `${settings.join("\n")}\n`);
  const binds = Object.entries(bound)
    .map(([name, path]) => `mount --bind ${join(folder, name)} ${path}`)
    .join(" && ");
  const daemon = ["libvirtd", "-p", "/run/libvirt/libvirtd.pid", ...(options.arguments ?? [])];
  const script = `mount --make-rprivate / && ${binds} && exec ${daemon.join(" ")}`;
  const socketPath = join(folder, "run/libvirt-sock");
  let child: ChildProcess | undefined;

  const start = async () => {
    rmSync(socketPath, { force: true });
    const log = openSync(join(folder, "libvirtd.out"), "a");
    child = spawn("unshare", ["-m", "bash", "-c", script], { stdio: ["ignore", log, log] });
    const deadline = Date.now() + 20_000;
    while (!existsSync(socketPath)) {
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`libvirtd does not start; see ${join(folder, "libvirtd.out")}`);
      }
      await sleep(50);
    }
  };
  const end = async (signal: NodeJS.Signals) => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => child?.once("exit", () => resolve()));
    child.kill(signal);
    await gone;
  };
  await start();
  return {
    folder,
    socketPath,
    start,
    kill: () => end("SIGKILL"),
    stop: async () => {
      await end("SIGTERM");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What `virsh` says against the same daemon: the independent oracle. */
export function virshSays(daemon: PrivateLibvirtd, uri: string, ...command: string[]): string {
  const [scheme, rest] = uri.split("://");
  const connect = `${scheme}+unix://${rest}?socket=${daemon.socketPath}`;
  return execFileSync("virsh", ["-q", "-c", connect, ...command], { encoding: "utf8" }).trimEnd();
}
