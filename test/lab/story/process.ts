/** Runs commands and keeps daemons, by argv and by recorded pid; output goes to files that a failed test can show. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { isAlive, killAll, type ProcessIdentity, startDaemon } from "@drover/shepherd/lab/process";
import { Miss } from "./timeline.ts";

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly timeoutMs?: number;
  /** Called with the started process, to interrupt or kill it half way. */
  readonly onStart?: (child: ChildProcess) => void;
}

/** Runs a command to its end. Never throws on a non-zero exit; `code` is 128 + n for a signal, 124 for the timeout. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const [command = "", ...rest] = argv;
  const from = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(command, rest, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true, // a group of its own, so that a timeout ends its children too
    });
    let stdout = "";
    let stderr = "";
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, options.timeoutMs ?? 300_000);
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({
        code: late ? 124 : (code ?? (signal === "SIGKILL" ? 137 : 130)),
        stdout,
        stderr,
        ms: performance.now() - from,
      });
    });
    child.stdin.on("error", () => undefined); // the command may end without reading its input
    child.stdin.end(options.input ?? "");
    options.onStart?.(child);
  });
}

/** What a command that failed said of it: its errors first, and only the end of its output, which a log may cut. */
export function whyOf({ stdout, stderr }: Finished): string {
  const tail = stdout.split("\n").slice(-20).join("\n");
  return `${stderr.trim()}\n… ${tail}`;
}

/** Like run, but a non-zero exit is a Miss with its errors. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const finished = await run(argv, options);
  if (finished.code !== 0) {
    throw new Miss(`${argv.join(" ")} ended with ${finished.code}: ${whyOf(finished)}`);
  }
  return finished;
}

/**
 * A daemon of the story: in a session of its own, its output in a file, so that it may stay when the story ends. Its world
 * adopts its pid, so that a later story ends it, also after a kill -9.
 */
export class Daemon {
  readonly logFile: string;
  private readonly identity: ProcessIdentity;

  constructor(
    argv: readonly string[],
    options: { readonly logFile: string; readonly env?: Readonly<Record<string, string>> },
  ) {
    this.logFile = options.logFile;
    const env: Record<string, string> = {};
    for (const [key, value] of Object.entries({ ...process.env, ...options.env })) {
      if (value !== undefined) env[key] = value;
    }
    this.identity = startDaemon(argv, { logFile: options.logFile, env });
  }

  get pid(): number {
    return this.identity.pid;
  }

  get alive(): boolean {
    return isAlive(this.identity);
  }

  /** Stops it where it stands, until it is killed. */
  freeze(): void {
    process.kill(this.identity.pid, "SIGSTOP");
  }

  /** kill -9, as a crash does; resolves when it is gone. */
  async crash(): Promise<void> {
    await killAll([this.identity]);
  }

  /** SIGTERM, then SIGKILL after ten seconds. */
  async stop(): Promise<void> {
    if (!this.alive) return;
    process.kill(this.identity.pid, "SIGTERM");
    for (let round = 0; round < 100 && this.alive; round++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await killAll([this.identity]);
  }

  tail(lines = 30): string {
    return readFileSync(this.logFile, "utf8").split("\n").slice(-lines).join("\n");
  }
}

/** Polls until `probe` answers something; Miss with `what` after the time is over. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => Promise<T | undefined> | T | undefined,
  everyMs = 200,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  let last: unknown;
  while (performance.now() < end) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  throw new Miss(
    `waited ${(timeoutMs / 1000).toFixed(0)} s in vain for: ${what}${last instanceof Error ? ` (${last.message})` : ""}`,
  );
}
