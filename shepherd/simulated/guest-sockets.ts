/**
 * Gives each simulated guest's port a unix socket, so that the real drover-guest script (through socat or a pty) and
 * tests in other processes can be its guest. One at a time has it open, as with the real device. Knows bytes only.
 */
import { mkdirSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import type { World } from "#simulated/world";

/** Listens at `<directory>/<domain name>.sock` for every guest that runs; the returned function ends it. */
export function openGuestSockets(world: World, directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const servers = new Map<string, Server>();
  const forget = world.onGuest(({ name, port }) => {
    const path = join(directory, `${name}.sock`);
    servers.get(name)?.close();
    rmSync(path, { force: true });
    let taken = false;
    const server = createServer((socket) => {
      if (taken) {
        socket.destroy(); // the device can be opened once
        return;
      }
      taken = true;
      const towards = (bytes: Buffer) => socket.write(bytes);
      port.guest.on("data", towards);
      socket.on("data", (bytes) => port.guest.write(bytes));
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        port.guest.off("data", towards);
        port.guest.pause(); // what comes meanwhile waits for the next one who opens it
        taken = false;
      });
    });
    server.on("error", () => server.close());
    server.listen(path);
    servers.set(name, server);
  });
  return () => {
    forget();
    for (const server of servers.values()) server.close();
  };
}
