/**
 * One command in a session of its own on an SSH connection: input, both outputs, exit code, time limit.
 * Knows nothing of how many may run at once (ssh.ts).
 */
import type { ClientChannel } from "ssh2";
import { Fault } from "#model/fault";
import type { HostId } from "#model/units";
import {
  type CommandOptions,
  type CommandResult,
  commandLine,
  defaultCommandTimeoutMs,
  maxOutputBytes,
} from "#shell/shell";
import { type Connection, unreachable } from "#shell/ssh-connection";

/** How long a killed command may take to end before the caller is told anyway. */
const killGraceMs = 1_000;
/**
 * sshd counts a session until it has reaped its process, a moment after we have seen it close: a refused one may be asked
 * for again, since nothing of its command has begun.
 */
const maxOpenTries = 6;
const openPauseMs = 50;

/** Resolves with any exit code; the faults are those of `HostShell.run`. */
export function runCommand(
  hostId: HostId,
  connection: Connection,
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? defaultCommandTimeoutMs;
  const line = commandLine(argv);
  // sshd refuses to signal a root session's processes: the host itself must end what nobody waits for any more.
  const limited = `timeout -s KILL ${Math.ceil(timeoutMs / 1000) + 1} ${line}`;
  return new Promise((resolve, reject) => {
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let bytes = 0;
    let tries = 0;
    let channel: ClientChannel | undefined;
    let ended: { readonly exitCode: number } | undefined;
    let tooLate: NodeJS.Timeout | undefined;
    const settle = (work: () => void): void => {
      clearTimeout(timer);
      clearTimeout(tooLate);
      forget();
      work();
    };
    const giveUp = (fault: Fault): void => {
      channel?.signal("KILL");
      channel?.close();
      // What the host still says decides nothing any more; wait shortly so that the session is free again.
      tooLate ??= setTimeout(() => settle(() => reject(fault)), killGraceMs);
      channel?.once("close", () => settle(() => reject(fault)));
    };
    const timer = setTimeout(
      () => giveUp(new Fault("shell.timeout", { host: hostId, command: line, timeoutMs })),
      timeoutMs,
    );
    const forget = connection.onLost((problem) => {
      settle(() => reject(unreachable(hostId, `${problem}, while \`${line}\` ran`)));
    });
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= maxOutputBytes) into.push(chunk);
      else {
        const details = { host: hostId, command: line, limitBytes: maxOutputBytes };
        giveUp(new Fault("shell.output_too_long", details));
      }
    };
    const start = (error: Error | undefined, opened: ClientChannel): void => {
      if (error !== undefined) {
        if (tries < maxOpenTries && tooLate === undefined) {
          setTimeout(open, openPauseMs * tries);
          return;
        }
        settle(() =>
          reject(unreachable(hostId, `no session for \`${line}\`: ${error.message}`, error)),
        );
        return;
      }
      channel = opened;
      if (tooLate !== undefined) opened.close();
      opened.on("data", collect(output.stdout));
      opened.stderr.on("data", collect(output.stderr));
      opened.on("exit", (code: number | null, signal?: string) => {
        // A shell reports a killed child as 128 + the signal's number; we have only its name.
        ended = { exitCode: code ?? 128 };
        if (signal !== undefined) output.stderr.push(Buffer.from(`killed by ${signal}\n`));
      });
      opened.on("close", () => {
        if (tooLate !== undefined) return;
        settle(() => {
          if (ended === undefined) {
            reject(unreachable(hostId, `the session of \`${line}\` ended without an exit code`));
          } else {
            const text = (chunks: readonly Buffer[]) => Buffer.concat(chunks).toString("utf8");
            resolve({ ...ended, stdout: text(output.stdout), stderr: text(output.stderr) });
          }
        });
      });
      opened.on("error", () => {
        // A write to a command that no longer reads: its exit code, which follows, tells more.
      });
      opened.end(options.input ?? "");
    };
    const open = (): void => {
      if (tooLate !== undefined) return; // nobody waits for it any more
      tries += 1;
      try {
        connection.client.exec(limited, start);
      } catch (error) {
        settle(() =>
          reject(
            unreachable(hostId, error instanceof Error ? error.message : String(error), error),
          ),
        );
      }
    };
    open();
  });
}
