/**
 * A host's shell over SSH: one connection, its host key verified, at most eight commands at once, and byte streams to
 * unix sockets of the host (libvirtd's). Connects when first asked and again after a loss; a host that does not answer
 * is asked again only after a growing pause, and everybody who asks meanwhile is told the last reason at once.
 * Knows nothing of what runs over it. Source of the numbers: reference of sshd (MaxSessions 10), measurements of ssh2.
 */
import { createHash, randomInt } from "node:crypto";
import type { Duplex } from "node:stream";
import {
  type CipherAlgorithm,
  Client,
  type ClientChannel,
  type ConnectConfig,
  type ServerHostKeyAlgorithm,
} from "ssh2";
import { Fault, isFault } from "#model/fault";
import type { HostId, Ms } from "#model/units";
import {
  type CommandOptions,
  type CommandResult,
  commandLine,
  defaultCommandTimeoutMs,
  type HostShell,
  maxOutputBytes,
} from "#shell/shell";

export interface SshTarget {
  /** Address or name. */
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** PEM or OpenSSH text of the private key. */
  readonly privateKey: string | Buffer;
  /** As in a known_hosts line without the name: `ssh-ed25519 AAAA…`. */
  readonly hostKey: string;
  /** A host in between, verified likewise. */
  readonly jump?: SshTarget | undefined;
}

export interface SshShell extends HostShell {
  /** Bytes to and from a unix socket of the host. Fault `host.unreachable` also when nothing listens there. */
  openStream(unixSocketPath: string): Promise<Duplex>;
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
}
export type SshState =
  | { readonly kind: "connected"; readonly hostId: HostId }
  | { readonly kind: "lost"; readonly hostId: HostId; readonly problem: string };

/** sshd allows ten sessions a connection by default; two stay free for a person. */
const maxCommandsAtOnce = 8;
/** TCP, key exchange and login of a loaded host over a slow WAN. */
const defaultConnectTimeoutMs = 15_000;
/** A dead peer is noticed after interval x count. */
const keepaliveIntervalMs = 5_000;
const keepaliveMaxMissed = 3;
/** Pause before the next attempt: doubled from first to last, plus up to half of it at random against herds. */
const firstPauseMs = 250;
const lastPauseMs = 15_000;
/** How long a killed command may take to end before the caller is told anyway. */
const killGraceMs = 1_000;

/** Connects lazily: a host that is down is met at its first command, not here. Throws TypeError for a host key that is none. */
export function createSshShell(options: SshShellOptions): SshShell {
  const { hostId, target } = options;
  checkHostKey(target);
  const gate = createGate(maxCommandsAtOnce);
  let connection: Promise<Connection> | undefined;
  let closed = false;
  let failures = 0;
  let refusal: { readonly fault: Fault; readonly untilMs: Ms } | undefined;

  function connected(): Promise<Connection> {
    if (closed) return Promise.reject(unreachable(hostId, "this shell has been closed"));
    if (connection !== undefined) return connection;
    if (refusal !== undefined && performance.now() < refusal.untilMs) {
      return Promise.reject(refusal.fault);
    }
    const attempt = connect(hostId, target, options.connectTimeoutMs ?? defaultConnectTimeoutMs);
    connection = attempt;
    attempt.then(
      (made) => {
        failures = 0;
        refusal = undefined;
        options.onState?.({ kind: "connected", hostId });
        made.onLost((problem) => {
          if (connection === attempt) connection = undefined;
          options.onState?.({ kind: "lost", hostId, problem });
        });
        if (closed) made.end();
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
    async openStream(unixSocketPath) {
      const made = await connected();
      return openSocket(hostId, made, unixSocketPath);
    },
    async close() {
      closed = true;
      const made = await connection?.catch(() => undefined);
      made?.end();
    },
  };
}

interface Connection {
  readonly client: Client;
  /** Called once, at once when it is lost already; the result takes the listener back. */
  onLost(listener: (problem: string) => void): () => void;
  end(): void;
}

async function connect(hostId: HostId, target: SshTarget, timeoutMs: Ms): Promise<Connection> {
  const jump =
    target.jump === undefined ? undefined : await connect(hostId, target.jump, timeoutMs);
  try {
    const sock = jump === undefined ? undefined : await forward(hostId, jump.client, target);
    return await login({ hostId, target, timeoutMs, sock, jump });
  } catch (error) {
    jump?.end();
    throw error;
  }
}

function login(request: {
  readonly hostId: HostId;
  readonly target: SshTarget;
  readonly timeoutMs: Ms;
  readonly sock: Duplex | undefined;
  readonly jump: Connection | undefined;
}): Promise<Connection> {
  const { hostId, target, sock, jump } = request;
  const expected = parseHostKey(target.hostKey);
  return new Promise((resolve, reject) => {
    const client = new Client();
    const listeners = new Set<(problem: string) => void>();
    let mismatch: Fault | undefined;
    let problem: string | undefined;
    let ready = false;
    const lose = (reason: string): void => {
      if (problem !== undefined) return;
      problem = reason;
      jump?.end();
      for (const listener of listeners) listener(reason);
    };
    client.on("ready", () => {
      ready = true;
      resolve({
        client,
        onLost: (listener) => {
          if (problem === undefined) listeners.add(listener);
          // Later, so that the caller holds what this call returns.
          else queueMicrotask(() => listener(problem ?? ""));
          return () => listeners.delete(listener);
        },
        end: () => client.end(),
      });
    });
    client.on("error", (error: Error & { level?: string }) => {
      if (ready) {
        lose(error.message);
        return;
      }
      if (mismatch !== undefined) reject(mismatch);
      else if (error.level === "client-authentication") {
        reject(
          new Fault("host.login_refused", { host: hostId, user: target.user }, { cause: error }),
        );
      } else
        reject(unreachable(hostId, `${target.address}:${target.port}: ${error.message}`, error));
    });
    client.on("close", () => {
      if (ready) lose("the connection was closed");
      else reject(mismatch ?? unreachable(hostId, `${target.address}:${target.port} hung up`));
    });
    const config: ConnectConfig = {
      host: target.address,
      port: target.port,
      username: target.user,
      privateKey: target.privateKey,
      readyTimeout: request.timeoutMs,
      keepaliveInterval: keepaliveIntervalMs,
      keepaliveCountMax: keepaliveMaxMissed,
      // The host may have several keys; only the one that we can check is asked for.
      algorithms: { serverHostKey: expected.algorithms, cipher: [...ciphers] },
      hostVerifier: (key: Buffer) => {
        if (key.equals(expected.blob)) return true;
        mismatch = new Fault("host.key_mismatch", {
          host: hostId,
          expected: fingerprint(expected.blob),
          shown: fingerprint(key),
        });
        return false;
      },
      ...(sock === undefined ? {} : { sock }),
    };
    try {
      client.connect(config);
    } catch (error) {
      reject(unreachable(hostId, error instanceof Error ? error.message : String(error), error));
    }
  });
}

function forward(hostId: HostId, jump: Client, target: SshTarget): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    jump.forwardOut("127.0.0.1", 0, target.address, target.port, (error, stream) => {
      if (error === undefined) resolve(stream);
      else reject(unreachable(hostId, `through its jump host: ${error.message}`, error));
    });
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

function runCommand(
  hostId: HostId,
  connection: Connection,
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const line = commandLine(argv);
  const timeoutMs = options.timeoutMs ?? defaultCommandTimeoutMs;
  return new Promise((resolve, reject) => {
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let bytes = 0;
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
    try {
      connection.client.exec(line, start);
    } catch (error) {
      settle(() =>
        reject(unreachable(hostId, error instanceof Error ? error.message : String(error), error)),
      );
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

function parseHostKey(text: string): {
  readonly blob: Buffer;
  readonly algorithms: ServerHostKeyAlgorithm[];
} {
  const [type = "", base64 = ""] = text.trim().split(/\s+/);
  const algorithms = hostKeyAlgorithms.get(type);
  const blob = Buffer.from(base64, "base64");
  if (
    algorithms === undefined ||
    blob.length < 32 ||
    blob.toString("latin1", 4, 4 + type.length) !== type
  ) {
    throw new TypeError(
      `a host key is written as in known_hosts without the name ("ssh-ed25519 AAAA…"), of one of the types ${[...hostKeyAlgorithms.keys()].join(", ")}`,
    );
  }
  return { blob, algorithms: [...algorithms] };
}

function checkHostKey(target: SshTarget): void {
  parseHostKey(target.hostKey);
  if (target.jump !== undefined) checkHostKey(target.jump);
}

/** AES-GCM first: it runs in Node's native crypto, while ssh2's own first choice (chacha20-poly1305) runs partly in WASM. */
const ciphers: readonly CipherAlgorithm[] = [
  "aes128-gcm@openssh.com",
  "aes256-gcm@openssh.com",
  "aes128-ctr",
  "aes256-ctr",
];

/** The signature algorithms by which a host proves each type of key. */
const hostKeyAlgorithms: ReadonlyMap<string, readonly ServerHostKeyAlgorithm[]> = new Map([
  ["ssh-ed25519", ["ssh-ed25519"]],
  ["ecdsa-sha2-nistp256", ["ecdsa-sha2-nistp256"]],
  ["ecdsa-sha2-nistp384", ["ecdsa-sha2-nistp384"]],
  ["ecdsa-sha2-nistp521", ["ecdsa-sha2-nistp521"]],
  ["ssh-rsa", ["rsa-sha2-512", "rsa-sha2-256"]],
]);

/** As `ssh-keygen -l` prints it. */
function fingerprint(key: Buffer): string {
  return `SHA256:${createHash("sha256").update(key).digest("base64").replace(/=+$/, "")}`;
}

function unreachable(hostId: HostId, problem: string, cause?: unknown): Fault {
  return new Fault("host.unreachable", { host: hostId, problem }, { cause });
}
