/**
 * RPC over TLS with client certificates. After the handshake the server sends one byte 0x01 when it accepts our
 * certificate, before anything else; the transport is handed over only after exactly that byte (measured).
 */
import { connect, type TLSSocket } from "node:tls";
import { connected, defaultConnectTimeoutMs } from "#libvirt/rpc/transports/socket";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

export const tlsPort = 16_514;

export interface TlsAddress {
  readonly address: string;
  readonly port?: number;
  /** PEM texts. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  /** Name or IP that the server's certificate must carry; default: the address. */
  readonly serverName?: string;
}

/** Faults: `host.unreachable` also for a refused certificate, with the reason. */
export async function connectTls(
  address: TlsAddress,
  options: { readonly timeoutMs?: Ms } = {},
): Promise<TLSSocket> {
  const port = address.port ?? tlsPort;
  const target = `${address.address}:${port}`;
  const socket = connect({
    host: address.address,
    port,
    ca: address.ca,
    cert: address.certificate,
    key: address.key,
    rejectUnauthorized: true,
    ...(address.serverName === undefined ? {} : { servername: address.serverName }),
  });
  await connected(socket, { target, event: "secureConnect", ...options });
  await readAcceptance(socket, target, options.timeoutMs ?? defaultConnectTimeoutMs);
  return socket;
}

function readAcceptance(socket: TLSSocket, target: string, timeoutMs: Ms): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      socket.off("readable", onReadable);
      socket.off("error", fail);
      socket.off("end", onEnd);
    };
    const fail = (error: Error) => {
      stop();
      socket.destroy();
      const details = { host: target, problem: error.message };
      reject(new Fault("host.unreachable", details, { cause: error }));
    };
    const onEnd = () => fail(new Error("the server did not accept our certificate"));
    const onReadable = () => {
      const byte = socket.read(1) as Buffer | null;
      if (byte === null) return;
      if (byte[0] !== 1) return fail(new Error(`the server opened with byte ${byte[0]}, not 1`));
      stop();
      resolve();
    };
    const timer = setTimeout(
      () => fail(new Error("the server does not say whether it accepts")),
      timeoutMs,
    );
    socket.on("readable", onReadable);
    socket.on("error", fail);
    socket.on("end", onEnd);
  });
}
