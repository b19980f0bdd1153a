/** Waits until a socket is connected, with a time limit and one kind of fault. Knows nothing of what flows then. */
import type { Socket } from "node:net";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

export const defaultConnectTimeoutMs = 10_000;

/** Resolves with the same socket once `event` came; else destroys it and throws `host.unreachable`. */
export function connected<S extends Socket>(
  socket: S,
  options: { readonly target: string; readonly timeoutMs?: Ms; readonly event?: string },
): Promise<S> {
  const timeoutMs = options.timeoutMs ?? defaultConnectTimeoutMs;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(new Error(`no connection in ${timeoutMs} ms`)), timeoutMs);
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      const details = { host: options.target, problem: error.message };
      reject(new Fault("host.unreachable", details, { cause: error }));
    };
    socket.once("error", fail);
    socket.once(options.event ?? "connect", () => {
      clearTimeout(timer);
      socket.off("error", fail);
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}
