/**
 * One host of the lab: its folders, its anchor process (namespaces), a real libvirtd and a real sshd inside them.
 * Sees one host's layout; the wires between hosts are in wires.ts.
 */
import { randomUUID } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { type HostLayout, hostsOf, type LabLayout } from "#lab/layout";
import { identify, isAlive, must, type ProcessIdentity, startDaemon, waitFor } from "#lab/process";
import { Fault } from "#model/fault";

/** The storage pool that drover.yaml names, and its folder as the host sees it. */
export const poolName = "drover";
const poolPath = "/var/lib/libvirt/images";

export interface HostProcesses {
  readonly anchor: ProcessIdentity;
  readonly libvirtd: ProcessIdentity;
  readonly sshd: ProcessIdentity;
}

/**
 * Joining a cgroup namespace moves nobody: a process enters the host's cgroups by writing its id, under v1 into each
 * hierarchy's root (as the namespace shows it), under v2 into the leaf that host-world.sh made.
 */
const enterCgroups = `for file in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/*/daemons/cgroup.procs; do
  case $file in
  /sys/fs/cgroup/unified/cgroup.procs | /sys/fs/cgroup/machine*) ;;
  *) [ ! -e "$file" ] || echo $$ >"$file" ;;
  esac
done
exec "$@"`;

/** argv prefix that runs a command inside a host: its network, files, name and cgroups. */
export function insideHost(anchor: ProcessIdentity): readonly string[] {
  const namespaces = ["--net", "--mount", "--uts", "--cgroup", "--wd=/"];
  return ["nsenter", `--target=${anchor.pid}`, ...namespaces, "--", "sh", "-c", enterCgroups, "sh"];
}

/** The unix socket of a host's libvirtd, as the machine's own file tree shows it. */
export function libvirtSocket(host: HostLayout): string {
  return join(host.folder, "run/libvirt/libvirt-sock");
}

/** Folders and files of the host, before anything runs. Returns the SSH host key's public line. */
export async function prepareHost(layout: LabLayout, host: HostLayout): Promise<string> {
  for (const folder of [
    "run/libvirt",
    "run/lock",
    "run/sshd",
    "run/home",
    "lib/images",
    "etc/qemu/networks",
    "etc/storage/autostart",
    "etc/pki-moves",
    "log/qemu",
    "cache",
    "ssh",
  ])
    mkdirSync(join(host.folder, folder), { recursive: true, mode: 0o755 });
  // Only filters come from the distribution: a user's own domains, networks and pools must never start in a lab host.
  if (existsSync("/etc/libvirt/nwfilter"))
    cpSync("/etc/libvirt/nwfilter", join(host.folder, "etc/nwfilter"), { recursive: true });
  write(host, "etc/libvirtd.conf", libvirtdConf());
  write(host, "etc/qemu.conf", qemuConf(host));
  write(host, "etc/libvirt.conf", 'uri_default = "qemu:///system"\n');
  write(host, "etc/storage/drover.xml", poolXml());
  const autostart = join(host.folder, "etc/storage/autostart/drover.xml");
  rmSync(autostart, { force: true });
  symlinkSync("/etc/libvirt/storage/drover.xml", autostart);
  write(host, "hosts", hostsFile(layout));
  write(host, "passwd", passwdFile());
  const key = join(host.folder, "ssh/host_ed25519");
  await must([
    "ssh-keygen",
    "-q",
    "-t",
    "ed25519",
    "-N",
    "",
    "-C",
    `drover-${layout.name}-${host.id}`,
    "-f",
    key,
  ]);
  write(host, "ssh/sshd_config", sshdConfig(layout, host));
  return readFileSync(`${key}.pub`, "utf8").trim().split(" ").slice(0, 2).join(" ");
}

/** Starts the anchor in the host's network namespace; resolves once its mounts stand. `qemu`: see qemu.ts. */
export async function startAnchor(
  host: HostLayout,
  qemu: string | undefined,
): Promise<ProcessIdentity> {
  const logFile = join(host.folder, "log/anchor.log");
  const ready = join(host.folder, "ready");
  rmSync(ready, { force: true });
  const anchor = startDaemon(
    [
      "nsenter",
      `--net=/run/netns/${host.namespace}`,
      "--wd=/",
      "--",
      "sh",
      join(import.meta.dirname, "host-world.sh"),
      host.folder,
      host.id,
      host.cgroup,
      qemu ?? "",
    ],
    { logFile },
  );
  const done = await waitFor(() => (existsSync(ready) || !isAlive(anchor) ? true : undefined), {
    timeoutMs: 20_000,
    everyMs: 20,
  });
  if (done === undefined || !isAlive(anchor))
    throw new Fault("lab.host_failed", {
      host: host.id,
      what: "its namespaces",
      problem: tail(logFile),
      file: logFile,
    });
  return anchor;
}

/** Starts libvirtd and sshd and waits until both accept connections. */
export async function startDaemons(
  host: HostLayout,
  anchor: ProcessIdentity,
): Promise<HostProcesses> {
  const environment = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    LC_ALL: "C",
  };
  const libvirtdLog = join(host.folder, "log/libvirtd.log");
  const sshdLog = join(host.folder, "log/sshd.log");
  const libvirtd = startDaemon(
    [...insideHost(anchor), "libvirtd", "-p", "/run/libvirt/libvirtd.pid"],
    { logFile: libvirtdLog, env: environment },
  );
  const sshd = startDaemon(
    [
      ...insideHost(anchor),
      "/usr/sbin/sshd",
      "-D",
      "-e",
      "-f",
      join(host.folder, "ssh/sshd_config"),
    ],
    { logFile: sshdLog, env: environment },
  );
  await answers(host, "libvirtd", libvirtd, libvirtdLog, () =>
    accepts({ path: libvirtSocket(host) }),
  );
  await answers(host, "sshd", sshd, sshdLog, () => accepts({ host: host.address, port: 22 }));
  return { anchor, libvirtd, sshd };
}

/** What of a host runs; all undefined for a host that is down. */
export function runningOf(processes: Partial<HostProcesses>): Record<keyof HostProcesses, boolean> {
  const alive = (identity: ProcessIdentity | undefined) =>
    identity !== undefined && isAlive(identity);
  return {
    anchor: alive(processes.anchor),
    libvirtd: alive(processes.libvirtd),
    sshd: alive(processes.sshd),
  };
}

async function answers(
  host: HostLayout,
  what: string,
  daemon: ProcessIdentity,
  logFile: string,
  probe: () => Promise<boolean>,
): Promise<void> {
  const outcome = await waitFor<"up" | "dead">(
    async () => ((await probe()) ? "up" : identify(daemon.pid) === undefined ? "dead" : undefined),
    { timeoutMs: 30_000 },
  );
  if (outcome !== "up")
    throw new Fault("lab.host_failed", {
      host: host.id,
      what,
      problem: tail(logFile),
      file: logFile,
    });
}

function accepts(where: { path: string } | { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(where, () => {
      socket.destroy();
      resolve(true);
    });
    socket.setTimeout(2_000, () => {
      socket.destroy();
      resolve(false);
    });
    socket.on("error", () => resolve(false));
  });
}

function tail(file: string): string {
  return existsSync(file)
    ? readFileSync(file, "utf8").trim().split("\n").slice(-5).join("; ")
    : "it wrote no log";
}

function write(host: HostLayout, path: string, text: string): void {
  writeFileSync(join(host.folder, path), text, { mode: 0o644 });
}

/** Every host has its own random uuid, else libvirt refuses to migrate between "the same" host. */
function libvirtdConf(): string {
  return `host_uuid = "${randomUUID()}"
unix_sock_dir = "/run/libvirt"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
max_client_requests = 64
max_workers = 64
log_level = 3
log_outputs = "3:stderr"
`;
}

/** No second layer of confinement and no log daemon: the host is a namespace, and root inside it already. */
function qemuConf(host: HostLayout): string {
  return `user = "root"
group = "root"
security_driver = "none"
namespaces = []
remember_owner = 0
stdio_handler = "file"
migration_address = "${host.address}"
migration_host = "${host.address}"
migrate_tls_x509_cert_dir = "/etc/libvirt/pki-moves"
`;
}

function poolXml(): string {
  return `<pool type='dir'><name>${poolName}</name><uuid>${randomUUID()}</uuid><target><path>${poolPath}</path></target></pool>\n`;
}

/** libvirt looks up its own name on many calls; a failing lookup costs seconds each time. */
function hostsFile(layout: LabLayout): string {
  const names = hostsOf(layout).map((host) => `${host.address} ${host.id}`);
  return `127.0.0.1 localhost\n::1 localhost\n${names.join("\n")}\n`;
}

/** This machine's accounts, but for root's home. */
function passwdFile(): string {
  return readFileSync("/etc/passwd", "utf8").replace(
    /^root:.*$/m,
    "root:x:0:0:root:/run/home:/bin/bash",
  );
}

function sshdConfig(layout: LabLayout, host: HostLayout): string {
  return `ListenAddress ${host.address}:22
HostKey ${host.folder}/ssh/host_ed25519
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
AuthorizedKeysFile ${layout.stateDirectory}/ssh/id_ed25519.pub
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
AllowStreamLocalForwarding yes
AllowTcpForwarding yes
SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Subsystem sftp internal-sftp
`;
}
