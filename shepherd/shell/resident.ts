/**
 * A shell that stays: one session of a connection in which scripts run one after the other. A session costs 20-150 ms
 * on a real sshd (fork, PAM, the login shell's start files), which a cut-over has not got; a script here costs a fork.
 * After a time limit or an unreadable answer the session is given up and the next script opens another.
 * Sits beside ssh-command; knows nothing of what the scripts do.
 */
import { randomBytes } from "node:crypto";
import type { ClientChannel } from "ssh2";
import { Fault } from "#model/fault";
import type { HostId, Ms } from "#model/units";
import {
  type CommandResult,
  commandLine,
  defaultCommandTimeoutMs,
  maxOutputBytes,
} from "#shell/shell";
import { type Connection, unreachable } from "#shell/ssh-connection";

export interface Resident {
  script(text: string, options?: { readonly timeoutMs?: Ms | undefined }): Promise<CommandResult>;
}

/**
 * Reads "mark size seconds", then a script of that many bytes; runs it in a shell of its own; closes each output with
 * the mark. `head -c` takes exactly the script, and `read` never more than its line, so nothing is lost between them.
 * The script travels by pipe, because an argument may not exceed 128 KiB, and is read by `cat`, because a shell reads
 * its own input byte by byte.
 */
const loop = `while read -r mark size seconds; do
script=$(head -c "$size"; echo .)
printf %s "\${script%.}" | timeout -s KILL "$seconds" sh -c 'eval "$(cat)"'
code=$?
printf '\\n%s %d\\n' "$mark" "$code"
printf '\\n%s\\n' "$mark" >&2
done`;
/** What a resident script is called in faults. */
const title = "a script";

export function createResident(hostId: HostId, connected: () => Promise<Connection>): Resident {
  let session: Session | undefined;
  let queue: Promise<unknown> = Promise.resolve();

  async function run(text: string, timeoutMs: Ms): Promise<CommandResult> {
    const connection = await connected();
    if (session?.connection !== connection || session.ended) {
      session = await openSession(hostId, connection);
    }
    return runScript(hostId, session, text, timeoutMs);
  }

  return {
    script(text, options) {
      const timeoutMs = options?.timeoutMs ?? defaultCommandTimeoutMs;
      const done = queue.then(() => run(text, timeoutMs));
      queue = done.catch(() => undefined);
      return done;
    },
  };
}

interface Session {
  readonly connection: Connection;
  readonly channel: ClientChannel;
  ended: boolean;
}

function openSession(hostId: HostId, connection: Connection): Promise<Session> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(unreachable(hostId, `no session for scripts: ${error.message}`, error));
    const forget = connection.onLost((problem) => fail(new Error(problem)));
    try {
      connection.client.exec(commandLine(["sh", "-c", loop]), (error, channel) => {
        forget();
        if (error !== undefined) {
          fail(error);
          return;
        }
        const session: Session = { connection, channel, ended: false };
        channel.on("close", () => {
          session.ended = true;
        });
        channel.on("error", () => {
          session.ended = true;
        });
        resolve(session);
      });
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

function runScript(
  hostId: HostId,
  session: Session,
  text: string,
  timeoutMs: Ms,
): Promise<CommandResult> {
  const { channel, connection } = session;
  const mark = `@${randomBytes(12).toString("hex")}`;
  return new Promise((resolve, reject) => {
    const stdout = collector(new RegExp(`\\n${mark} (\\d+)\\n$`));
    const stderr = collector(new RegExp(`\\n${mark}\\n$`));
    const settle = (work: () => void): void => {
      clearTimeout(timer);
      forget();
      channel.off("data", onOutput);
      channel.stderr.off("data", onError);
      channel.off("close", onClose);
      work();
    };
    const giveUp = (fault: Fault): void => {
      session.ended = true;
      channel.close();
      settle(() => reject(fault));
    };
    const look = (): void => {
      if (stdout.bytes() + stderr.bytes() > maxOutputBytes) {
        const details = { host: hostId, command: title, limitBytes: maxOutputBytes };
        giveUp(new Fault("shell.output_too_long", details));
        return;
      }
      const [out, err] = [stdout.end(), stderr.end()];
      if (out === undefined || err === undefined) return;
      settle(() =>
        resolve({ exitCode: Number(out.captured), stdout: out.before, stderr: err.before }),
      );
    };
    const onOutput = (chunk: Buffer): void => {
      stdout.add(chunk);
      look();
    };
    const onError = (chunk: Buffer): void => {
      stderr.add(chunk);
      look();
    };
    const onClose = (): void => giveUp(unreachable(hostId, "the session for scripts ended"));
    const timer = setTimeout(
      () => giveUp(new Fault("shell.timeout", { host: hostId, command: title, timeoutMs })),
      timeoutMs,
    );
    const forget = connection.onLost((problem) =>
      giveUp(unreachable(hostId, `${problem}, while ${title} ran`)),
    );
    channel.on("data", onOutput);
    channel.stderr.on("data", onError);
    channel.on("close", onClose);
    const bytes = Buffer.from(text, "utf8");
    // One second more than we wait: the host ends what nobody waits for any more.
    const header = `${mark} ${bytes.length} ${Math.ceil(timeoutMs / 1000) + 1}\n`;
    channel.write(Buffer.concat([Buffer.from(header), bytes]));
  });
}

/** Gathers chunks and looks for the mark only in the last of them: an answer may be megabytes in thousands of chunks. */
function collector(end: RegExp): {
  add(chunk: Buffer): void;
  bytes(): number;
  end(): { readonly before: string; readonly captured: string | undefined } | undefined;
} {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return {
    add(chunk) {
      chunks.push(chunk);
      bytes += chunk.length;
    },
    bytes: () => bytes,
    end() {
      const tail = Buffer.concat(chunks.slice(-tailChunks)).toString("latin1");
      const found = end.exec(tail);
      if (found === null) return undefined;
      const before = Buffer.concat(chunks).subarray(0, bytes - found[0].length);
      return { before: before.toString("utf8"), captured: found[1] };
    },
  };
}
/** The closing mark is 30-odd bytes; it arrives in as many chunks only if the network cuts every byte apart. */
const tailChunks = 64;
