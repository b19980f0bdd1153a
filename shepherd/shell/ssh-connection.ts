/**
 * One verified SSH connection to a host, through jump hosts where there are any: login, host key, keepalive, loss.
 * Below the shell (ssh.ts); knows nothing of commands or of when to try again.
 */
import { createHash } from "node:crypto";
import type { Duplex } from "node:stream";
import {
  type CipherAlgorithm,
  Client,
  type ConnectConfig,
  type ServerHostKeyAlgorithm,
} from "ssh2";
import { Fault } from "#model/fault";
import type { HostId, Ms } from "#model/units";

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

export interface Connection {
  readonly client: Client;
  /** Called once, at once when it is lost already; the result takes the listener back. */
  onLost(listener: (problem: string) => void): () => void;
  end(): void;
}

/** A dead peer is noticed after interval x count. */
const keepaliveIntervalMs = 5_000;
const keepaliveMaxMissed = 3;
/** Faults `host.unreachable`, `host.key_mismatch`, `host.login_refused`. */
export async function connect(
  hostId: HostId,
  target: SshTarget,
  timeoutMs: Ms,
): Promise<Connection> {
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
      // Questions and answers are small: waiting to fill a packet costs 40 ms each (measured).
      client.setNoDelay(true);
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

/** Throws TypeError for a host key that is none, here or at a jump host. */
export function checkHostKey(target: SshTarget): void {
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

export function unreachable(hostId: HostId, problem: string, cause?: unknown): Fault {
  return new Fault("host.unreachable", { host: hostId, problem }, { cause });
}
