/** RPC over plain TCP: only for tests and labs, since anyone on the way can read and write. */
import { connect, type Socket } from "node:net";
import { connected } from "#libvirt/rpc/transports/socket";
import type { Ms } from "#model/units";

export const tcpPort = 16_509;

export function connectTcp(
  address: { readonly address: string; readonly port?: number },
  options: { readonly timeoutMs?: Ms } = {},
): Promise<Socket> {
  const port = address.port ?? tcpPort;
  const target = `${address.address}:${port}`;
  return connected(connect({ host: address.address, port }), { target, ...options });
}
