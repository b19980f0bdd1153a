/**
 * RPC through SSH, by a forward to libvirt's unix socket on the host (direct-streamlocal): no helper program, and one
 * SSH connection carries many RPC connections. The host key must be exactly the configured one.
 * A room that already has an SSH connection hands over its own forwarded stream instead of using this.
 */
import type { Duplex } from "node:stream";
import { Client } from "ssh2";
import { defaultSocketPath } from "#libvirt/rpc/transports/unix";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

export interface SshAddress {
  readonly address: string;
  readonly port?: number;
  readonly user: string;
  /** Private key, OpenSSH or PEM text. */
  readonly privateKey: string;
  /** As in a known_hosts line without the name: `ssh-ed25519 AAAA…`. */
  readonly hostKey: string;
}

export class SshSession {
  readonly #client: Client;
  readonly #target: string;

  private constructor(client: Client, target: string) {
    this.#client = client;
    this.#target = target;
  }

  /** Faults: `host.key_mismatch`, `host.unreachable`. */
  static connect(
    address: SshAddress,
    options: { readonly timeoutMs?: Ms } = {},
  ): Promise<SshSession> {
    const target = `${address.user}@${address.address}:${address.port ?? 22}`;
    const expected = Buffer.from(address.hostKey.trim().split(/\s+/)[1] ?? "", "base64");
    const algorithm = address.hostKey.trim().split(/\s+/)[0] ?? "";
    const client = new Client();
    return new Promise((resolve, reject) => {
      let mismatch = false;
      client.once("ready", () => resolve(new SshSession(client, target)));
      client.on("error", (error) => {
        if (mismatch)
          return reject(new Fault("host.key_mismatch", { host: target }, { cause: error }));
        const details = { host: target, problem: error.message };
        reject(new Fault("host.unreachable", details, { cause: error }));
      });
      client.connect({
        host: address.address,
        port: address.port ?? 22,
        username: address.user,
        privateKey: address.privateKey,
        readyTimeout: options.timeoutMs ?? 10_000,
        keepaliveInterval: 5_000,
        keepaliveCountMax: 5,
        algorithms: { serverHostKey: signatureAlgorithms(algorithm) },
        hostVerifier: (key: Buffer) => {
          mismatch = !key.equals(expected);
          return !mismatch;
        },
      });
    });
  }

  /** A byte stream to a unix socket on the host. Fault `host.unreachable` when nothing listens there. */
  forward(socketPath: string = defaultSocketPath): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      this.#client.openssh_forwardOutStreamLocal(socketPath, (error, channel) => {
        if (error === undefined || error === null) return resolve(channel);
        const details = { host: this.#target, problem: `${socketPath}: ${error.message}` };
        reject(new Fault("host.unreachable", details, { cause: error }));
      });
    });
  }

  onClosed(listener: () => void): void {
    this.#client.once("close", listener);
  }

  close(): void {
    this.#client.end();
  }
}

/** Only algorithms of the configured key: else the server may present another key it owns, and a good host fails. */
function signatureAlgorithms(
  keyType: string,
): (
  | "ssh-ed25519"
  | "rsa-sha2-512"
  | "rsa-sha2-256"
  | "ecdsa-sha2-nistp256"
  | "ecdsa-sha2-nistp384"
  | "ecdsa-sha2-nistp521"
)[] {
  switch (keyType) {
    case "ssh-rsa":
      return ["rsa-sha2-512", "rsa-sha2-256"];
    case "ecdsa-sha2-nistp256":
    case "ecdsa-sha2-nistp384":
    case "ecdsa-sha2-nistp521":
      return [keyType];
    default:
      return ["ssh-ed25519"];
  }
}
