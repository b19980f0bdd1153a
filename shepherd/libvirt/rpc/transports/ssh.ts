/**
 * RPC through SSH: a byte stream that the shell room forwards to libvirt's unix socket on the host, so that there is
 * one SSH connection, one verified host key and no helper program. Monolithic and modular daemons name their socket
 * differently; the one that answers is remembered. Knows no SSH.
 */
import type { Duplex } from "node:stream";
import { isFault } from "#model/fault";

/** What the shell room offers (shell/ssh.ts). Fault `host.unreachable` when nothing listens at the path. */
export interface StreamOpener {
  openStream(unixSocketPath: string): Promise<Duplex>;
}

export const socketPaths = ["/var/run/libvirt/libvirt-sock", "/var/run/libvirt/virtqemud-sock"];

/** A function that dials; give it to HostConnections. */
export function sshDialer(shell: StreamOpener, paths = socketPaths): () => Promise<Duplex> {
  let working: string | undefined;
  return async () => {
    const candidates = working === undefined ? paths : [working];
    let last: unknown;
    for (const path of candidates) {
      try {
        const stream = await shell.openStream(path);
        working = path;
        return stream;
      } catch (error) {
        if (!isFault(error, "host.unreachable")) throw error;
        last = error;
      }
    }
    working = undefined;
    throw last;
  };
}
