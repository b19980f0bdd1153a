/** Runs commands and keeps daemons, by argv and by recorded pid; output goes to files that a failed test can show. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
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

/** Like run, but a non-zero exit is a Miss with the whole output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const finished = await run(argv, options);
  if (finished.code !== 0) {
    throw new Miss(
      `${argv.join(" ")} ended with ${finished.code}\n${finished.stdout}${finished.stderr}`,
    );
  }
  return finished;
}

/** A daemon of the story, with its output in a file. */
export class Daemon {
  readonly child: ChildProcess;
  readonly logFile: string;
  private readonly ended: Promise<number>;

  constructor(
    argv: readonly string[],
    options: {
      readonly logFile: string;
      readonly cwd?: string;
      readonly env?: Readonly<Record<string, string>>;
    },
  ) {
    const [command = "", ...rest] = argv;
    this.logFile = options.logFile;
    const log = createWriteStream(options.logFile, { flags: "a" });
    this.child = spawn(command, rest, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.pipe(log, { end: false });
    this.child.stderr?.pipe(log, { end: false });
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code) => resolve(code ?? 137));
    });
  }

  /** kill -9, as a crash does; resolves when it is gone. */
  async crash(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** SIGTERM, then SIGKILL after ten seconds. */
  async stop(): Promise<number> {
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    const code = await this.ended;
    clearTimeout(timer);
    return code;
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
