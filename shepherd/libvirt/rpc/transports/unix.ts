/** RPC over a unix socket of this machine. Knows the socket's path only. */
import { connect, type Socket } from "node:net";
import { connected } from "#libvirt/rpc/transports/socket";
import type { Ms } from "#model/units";

/** Where libvirtd listens on a usual host; `virtqemud-sock` beside it with modular daemons. */
export const defaultSocketPath = "/var/run/libvirt/libvirt-sock";

export function connectUnix(
  address: { readonly path: string },
  options: { readonly timeoutMs?: Ms } = {},
): Promise<Socket> {
  return connected(connect(address.path), { target: address.path, ...options });
}
