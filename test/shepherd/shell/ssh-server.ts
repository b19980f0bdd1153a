/**
 * A real SSH server in this process for the shell's tests: real protocol, real commands by /bin/sh, unix sockets
 * forwarded. Counts what it is asked, so that a test can see connections and commands from the other side.
 */
import { spawn } from "node:child_process";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import ssh2 from "ssh2";

export interface TestSshServer {
  readonly port: number;
  /** As in known_hosts without the name. */
  readonly hostKey: string;
  readonly connections: () => number;
  readonly mostAtOnce: () => number;
  /** Cuts all connections and stops listening. */
  stop(): Promise<void>;
  /** Cuts all connections, goes on listening. */
  cut(): void;
}

export interface TestKey {
  readonly private: string;
  readonly public: string;
}

export function newKey(): TestKey {
  return ssh2.utils.generateKeyPairSync("ed25519");
}

export async function startSshServer(options: {
  readonly hostKey: TestKey;
  readonly userKey: TestKey;
  readonly port?: number;
}): Promise<TestSshServer> {
  const clients = new Set<ssh2.Connection>();
  let connections = 0;
  let running = 0;
  let mostAtOnce = 0;
  const allowed = ssh2.utils.parseKey(options.userKey.public);
  if (allowed instanceof Error) throw allowed;

  const server = new ssh2.Server({ hostKeys: [options.hostKey.private] }, (client) => {
    connections += 1;
    clients.add(client);
    client.on("close", () => clients.delete(client));
    client.on("error", () => clients.delete(client));
    client.on("authentication", (context) => {
      if (context.method === "publickey" && context.key.data.equals(allowed.getPublicSSH())) {
        context.accept();
      } else context.reject(["publickey"]);
    });
    client.on("tcpip", (accept, _reject, info) => {
      const socket = connect(info.destPort, info.destIP);
      const channel = accept();
      socket.pipe(channel).pipe(socket);
      socket.on("error", () => channel.destroy());
      channel.on("error", () => socket.destroy());
    });
    client.on("openssh.streamlocal", (accept, reject, info) => {
      const socket = connect(info.socketPath);
      socket.on("error", () => reject());
      socket.on("connect", () => {
        const channel = accept();
        socket.pipe(channel).pipe(socket);
      });
    });
    client.on("session", (acceptSession) => {
      const session = acceptSession();
      session.on("exec", (acceptExec, _reject, info) => {
        const channel = acceptExec();
        running += 1;
        mostAtOnce = Math.max(mostAtOnce, running);
        // A process group of its own, so that a command that was given up leaves nothing behind.
        const child = spawn("/bin/sh", ["-c", info.command], { detached: true });
        const kill = (): void => {
          if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
            process.kill(-child.pid, "SIGKILL");
          }
          // What a `timeout` started has a group of its own and ends by itself; it must not hold this process.
          for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.destroy();
        };
        channel.on("close", kill);
        session.on("signal", kill);
        child.stdout.pipe(channel, { end: false });
        child.stderr.pipe(channel.stderr, { end: false });
        channel.pipe(child.stdin);
        child.stdin.on("error", () => channel.resume());
        child.on("close", (code, signal) => {
          running -= 1;
          if (signal === null) channel.exit(code ?? 0);
          else channel.exit(signal, false, "");
          channel.end();
        });
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const client of clients) client.end();
  };
  return {
    port: (server.address() as AddressInfo).port,
    hostKey: options.hostKey.public,
    connections: () => connections,
    mostAtOnce: () => mostAtOnce,
    cut,
    stop: () => {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
