/**
 * Commands and daemons of the lab on this machine, always by argv and never by a shell line put together from parts.
 * A process is remembered by pid and start time, so that a reused pid is never killed. Knows nothing of sites.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "#model/fault";

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}
export interface RunOptions {
  readonly input?: string | Uint8Array | undefined;
  readonly cwd?: string | undefined;
  readonly timeoutMs?: number | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** Runs a command to its end; a non-zero exit is a value. 124 stands for the time limit. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const [command = "", ...rest] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(command, rest, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: "C", ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, options.timeoutMs ?? 120_000);
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", (cause) => {
      clearTimeout(timer);
      reject(
        new Fault(
          "lab.command_failed",
          { command, exitCode: 127, problem: cause.message },
          { cause },
        ),
      );
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({
        code: late ? 124 : (code ?? 137),
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      });
    });
    child.stdin.on("error", () => undefined); // a command may end without reading its input
    child.stdin.end(options.input ?? "");
  });
}

/** Like run; a non-zero exit is Fault `lab.command_failed` with the last lines of stderr. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const finished = await run(argv, options);
  if (finished.code !== 0) {
    const said = `${finished.stderr}${finished.stdout}`.trim().split("\n").slice(-5).join("; ");
    throw new Fault("lab.command_failed", {
      command: argv.join(" "),
      exitCode: finished.code,
      problem: said,
    });
  }
  return finished.stdout;
}

/** A process that may be recognised later. `startTicks`: field 22 of /proc/<pid>/stat, clock ticks since boot. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
}

/** Undefined when there is no such process, or only its zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  const fields = statFields(pid);
  const startTicks = fields?.[19];
  return fields === undefined || startTicks === undefined || fields[0] === "Z"
    ? undefined
    : { pid, startTicks };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTicks === identity.startTicks;
}

/** Starts a daemon in a session of its own, its output appended to a file; it outlives this process. */
export function startDaemon(
  argv: readonly string[],
  options: { readonly logFile: string; readonly env?: Readonly<Record<string, string>> },
): ProcessIdentity {
  const [command = "", ...rest] = argv;
  const log = openSync(options.logFile, "a", 0o600);
  const child = spawn(command, rest, {
    detached: true,
    stdio: ["ignore", log, log],
    env: options.env ?? process.env,
    cwd: "/",
  });
  closeSync(log);
  child.on("error", () => undefined); // the missing pid below tells it
  child.unref();
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  if (identity === undefined)
    throw new Fault("lab.command_failed", {
      command: argv.join(" "),
      exitCode: 127,
      problem: `did not start; see ${options.logFile}`,
    });
  return identity;
}

/** Kills what still is the process it was, and waits until all are gone. */
export async function killAll(identities: readonly ProcessIdentity[]): Promise<void> {
  for (const identity of identities) {
    if (isAlive(identity)) signal(identity.pid, "SIGKILL");
  }
  for (let round = 0; round < 200 && identities.some(isAlive); round += 1) await sleep(25);
  const left = identities.filter(isAlive);
  if (left.length > 0)
    throw new Fault("lab.cleanup_failed", {
      problem: `processes ${left.map((one) => one.pid).join(", ")} do not end`,
    });
}

/** All processes whose network namespace is one of these files (/run/netns/…), this process excepted. */
export function processesInNamespaces(files: readonly string[]): readonly ProcessIdentity[] {
  const wanted = new Set(files.flatMap((file) => namespaceInode(file) ?? []));
  if (wanted.size === 0) return [];
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    const inode = processNamespaceInode(pid);
    const identity = inode !== undefined && wanted.has(inode) ? identify(pid) : undefined;
    return identity === undefined ? [] : [identity];
  });
}

/** Waits until the probe answers something; undefined when the time is over. */
export async function waitFor<T>(
  probe: () => Promise<T | undefined> | T | undefined,
  options: { readonly timeoutMs: number; readonly everyMs?: number },
): Promise<T | undefined> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (performance.now() >= end) return undefined;
    await sleep(options.everyMs ?? 50);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // it ended by itself
  }
}

/** The fields after the command name (which may itself hold spaces and brackets): [0] is the state. */
function statFields(pid: number): readonly string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined; // gone
  }
}

function processNamespaceInode(pid: number): string | undefined {
  try {
    return /\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1];
  } catch {
    return undefined; // gone, or a kernel thread
  }
}

function namespaceInode(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  // a namespace file that lost its mount is a plain file, whose inode belongs to another filesystem
  const mounted = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .find((line) => line.split(" ")[4] === file && line.includes(" nsfs "));
  return mounted === undefined ? undefined : /net:\[(\d+)\]/.exec(mounted)?.[1];
}
