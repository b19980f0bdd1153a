/**
 * A shell on one host: commands with their exit codes, one way to write them that cannot be injected into.
 * Sits between the rooms that change a host (host-network) and the way to get there (ssh; tests bring a local one).
 * Knows nothing of what the commands mean.
 */
import type { Duplex } from "node:stream";
import { Fault } from "#model/fault";
import type { HostId, Ms } from "#model/units";

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Given to the command's standard input, then closed: batches travel here, never in the command line. */
  readonly input?: string | undefined;
  /** Default `defaultCommandTimeoutMs`. After it the command is killed as far as the host allows: Fault `shell.timeout`. */
  readonly timeoutMs?: Ms | undefined;
}

export interface HostShell {
  readonly hostId: HostId;
  /**
   * Runs one program with its arguments; resolves with any exit code. Faults: `host.unreachable` (also when the
   * connection broke while it ran: it may have happened), `shell.timeout`, `shell.output_too_long`.
   */
  run(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /**
   * Runs a POSIX shell script as a whole, with nothing on its standard input; else as `run`. One script at a time, in
   * the order of the calls, each in a fresh shell. For frequent batches: it costs no session of its own.
   */
  script(text: string, options?: Pick<CommandOptions, "timeoutMs">): Promise<CommandResult>;
  /** Standard input and output of a command that runs as long as it likes; absent: none can. Fault `host.unreachable`. */
  openCommand?(argv: readonly string[]): Promise<Duplex>;
}

/** Network batches of thousands of ports end within a second; anything slower is a host in trouble. */
export const defaultCommandTimeoutMs = 30_000;
/** `ip -d link` of 4,000 networks is about 20 MB; more is no answer to a command of ours. */
export const maxOutputBytes = 64 * 1024 * 1024;

/** Like `run`, but another exit code than 0 is Fault `shell.exit` with the end of what the command said. */
export async function runOk(
  shell: HostShell,
  argv: readonly string[],
  options?: CommandOptions,
): Promise<CommandResult> {
  const result = await shell.run(argv, options);
  if (result.exitCode !== 0) {
    throw new Fault("shell.exit", {
      host: shell.hostId,
      command: commandLine(argv),
      exitCode: result.exitCode,
      problem: lastLines(result.stderr === "" ? result.stdout : result.stderr),
    });
  }
  return result;
}

/** One line for a POSIX shell in which every argument stays itself, whatever it holds. Refuses NUL, which no shell can carry. */
export function commandLine(argv: readonly string[]): string {
  return argv.map(quote).join(" ");
}

/** The last words of an output, for a person: at most 5 lines and 500 characters. */
export function lastLines(text: string): string {
  return text.trim().split("\n").slice(-5).join("; ").slice(-500);
}

function quote(argument: string): string {
  if (argument.includes("\0")) throw new TypeError("an argument with a NUL character");
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(argument)) return argument;
  return `'${argument.replaceAll("'", String.raw`'\''`)}'`;
}
