/**
 * A host's shell over SSH: one connection, its host key verified, at most seven commands at once, and byte streams to
 * unix sockets of the host (libvirtd's). Connects when first asked and again after a loss; a host that does not answer
 * is asked again only after a growing pause, and everybody who asks meanwhile is told the last reason at once.
 * Knows nothing of what runs over it. Source of the numbers: reference of sshd (MaxSessions 10), measurements of ssh2.
 */
import { randomInt } from "node:crypto";
import type { Duplex } from "node:stream";
import { type Fault, isFault } from "#model/fault";
import type { HostId, Ms } from "#model/units";
import { createResident, type Resident } from "#shell/resident";
import { commandLine, type HostShell } from "#shell/shell";
import { runCommand } from "#shell/ssh-command";
import {
  type Connection,
  checkHostKey,
  connect,
  type SshTarget,
  unreachable,
} from "#shell/ssh-connection";

export type { SshTarget } from "#shell/ssh-connection";

export interface SshShell extends HostShell {
  /** Bytes to and from a unix socket of the host. Fault `host.unreachable` also when nothing listens there. */
  openStream(unixSocketPath: string): Promise<Duplex>;
  /** Standard input and output of a command of the host. Fault `host.unreachable`. It may run as long as it likes. */
  openCommand(argv: readonly string[]): Promise<Duplex>;
  /** Ends the connection and all that runs over it. A later call fails with `host.unreachable`. */
  close(): Promise<void>;
}

export interface SshShellOptions {
  readonly hostId: HostId;
  readonly target: SshTarget;
  /** Told when a connection is made or lost; facts for a log line. */
  readonly onState?: ((state: SshState) => void) | undefined;
  /** Default `connectTimeoutMs`. */
  readonly connectTimeoutMs?: Ms | undefined;
  /** Told of each new connection before anything runs over it; a rejection ends the connection. */
  readonly admit?: ((connection: Connection) => Promise<void>) | undefined;
}
export type SshState =
  | { readonly kind: "connected"; readonly hostId: HostId }
  | { readonly kind: "lost"; readonly hostId: HostId; readonly problem: string };

/**
 * sshd allows ten sessions a connection by default; one is the resident's, one holds the programs that wait for a
 * cut-over, one stays free for a person.
 */
const maxCommandsAtOnce = 7;
/** TCP, key exchange and login of a loaded host over a slow WAN. */
const defaultConnectTimeoutMs = 15_000;
/** Pause before the next attempt: doubled from first to last, plus up to half of it at random against herds. */
const firstPauseMs = 250;
const lastPauseMs = 15_000;
/** Connects lazily: a host that is down is met at its first command, not here. Throws TypeError for a host key that is none. */
export function createSshShell(options: SshShellOptions): SshShell {
  const { hostId, target } = options;
  checkHostKey(target);
  const gate = createGate(maxCommandsAtOnce);
  const resident: Resident = createResident(hostId, () => connected());
  let connection: Promise<Connection> | undefined;
  let made: Connection | undefined;
  let closed = false;
  let failures = 0;
  let refusal: { readonly fault: Fault; readonly untilMs: Ms } | undefined;

  function connected(): Promise<Connection> {
    if (closed) return Promise.reject(unreachable(hostId, "this shell has been closed"));
    if (connection !== undefined) return connection;
    if (refusal !== undefined && performance.now() < refusal.untilMs) {
      return Promise.reject(refusal.fault);
    }
    const attempt = connect(
      hostId,
      target,
      options.connectTimeoutMs ?? defaultConnectTimeoutMs,
    ).then(async (opened) => {
      try {
        await options.admit?.(opened);
        return opened;
      } catch (error) {
        opened.end();
        throw error;
      }
    });
    connection = attempt;
    attempt.then(
      (opened) => {
        failures = 0;
        refusal = undefined;
        made = opened;
        options.onState?.({ kind: "connected", hostId });
        opened.onLost((problem) => {
          if (connection === attempt) connection = undefined;
          if (made === opened) made = undefined;
          options.onState?.({ kind: "lost", hostId, problem });
        });
        if (closed) opened.end();
      },
      (error: unknown) => {
        if (connection === attempt) connection = undefined;
        const pauseMs = Math.min(lastPauseMs, firstPauseMs * 2 ** failures);
        failures += 1;
        refusal = {
          fault: isFault(error) ? error : unreachable(hostId, String(error), error),
          untilMs: performance.now() + pauseMs + randomInt(Math.ceil(pauseMs / 2)),
        };
      },
    );
    return attempt;
  }

  return {
    hostId,
    run: (argv, commandOptions) =>
      gate(async () => runCommand(hostId, await connected(), argv, commandOptions)),
    script: resident.script,
    async openStream(unixSocketPath) {
      return openSocket(hostId, await connected(), unixSocketPath);
    },
    async openCommand(argv) {
      return openChannel(hostId, await connected(), argv);
    },
    async close() {
      closed = true;
      // One that is still being made ends itself when it is there.
      const ended = made === undefined ? undefined : lost(made);
      made?.end();
      await ended;
    },
  };
}

function lost(connection: Connection): Promise<void> {
  return new Promise((resolve) => {
    connection.onLost(() => resolve());
  });
}

function openChannel(
  hostId: HostId,
  connection: Connection,
  argv: readonly string[],
): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const line = commandLine(argv);
    const fail = (error: Error): void =>
      reject(unreachable(hostId, `\`${line}\`: ${error.message}`, error));
    const forget = connection.onLost((problem) => fail(new Error(problem)));
    try {
      connection.client.exec(line, (error, channel) => {
        forget();
        if (error === undefined) resolve(channel);
        else fail(error);
      });
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

function openSocket(hostId: HostId, connection: Connection, path: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(unreachable(hostId, `${path}: ${error.message}`, error));
    const forget = connection.onLost((problem) => fail(new Error(problem)));
    try {
      connection.client.openssh_forwardOutStreamLocal(path, (error, stream) => {
        forget();
        if (error === undefined) resolve(stream);
        else fail(error);
      });
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

/** Lets `limit` works run at once, the others wait in order. */
function createGate(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // The place is handed over, so that nobody who comes now overtakes.
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
