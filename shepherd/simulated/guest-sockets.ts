/**
 * Doors into a simulated world for another process: one unix socket a guest, which speaks what its program would read
 * and write on `dev.drover.0`, and `control.sock` for what happens behind the shepherd's back and for what a witness
 * sees. One JSON object a line, `{ method, … }`, answered by one line, `{ result }` or `{ error }`.
 */
import { mkdirSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { GuestPort } from "#simulated/guest-port";
import { reaches } from "#simulated/network";
import type { World } from "#simulated/world";

/** Guests at `<directory>/<domain name>.sock`; the returned function closes all. */
export function openGuestSockets(world: World, directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const servers = new Map<string, Server>();
  const open = (name: string, onSocket: (socket: Socket) => void): void => {
    if (servers.has(name)) return;
    const path = join(directory, `${name}.sock`);
    // A predecessor that was killed leaves its socket file.
    rmSync(path, { force: true });
    const server = createServer(onSocket);
    server.listen(path);
    server.unref();
    servers.set(name, server);
  };
  const sockets = new Set<Socket>();
  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    // A guest's program that dies is no event here.
    socket.on("error", () => socket.destroy());
    return socket;
  };

  open("control", (socket) => serveControl(world, track(socket)));
  const endGuests = world.onGuest(({ id, name }) => {
    const busy = { socket: undefined as Socket | undefined };
    open(name, (socket) => {
      track(socket);
      const port = world.guestPort(world.idOf(name) ?? id);
      // The port opens exclusively, as in the guest.
      if (port === undefined || busy.socket?.destroyed === false) socket.destroy();
      else {
        busy.socket = socket;
        joinGuest(socket, port);
      }
    });
  });
  return () => {
    endGuests();
    for (const server of servers.values()) server.close();
    for (const socket of sockets) socket.destroy();
  };
}

function joinGuest(socket: Socket, port: GuestPort): void {
  const forward = (chunk: Buffer) => socket.write(chunk);
  port.guest.on("data", forward);
  // A listener alone does not wake a stream that the program before this one left paused.
  port.guest.resume();
  socket.pipe(port.guest, { end: false });
  socket.once("close", () => {
    socket.unpipe(port.guest);
    port.guest.off("data", forward);
    port.guest.pause();
  });
}

interface Command {
  readonly method?: unknown;
  readonly [argument: string]: unknown;
}

function serveControl(world: World, socket: Socket): void {
  const lines = createInterface({ input: socket });
  lines.on("line", (line) => {
    let answer: unknown;
    try {
      answer = { result: execute(world, JSON.parse(line) as Command) ?? null };
    } catch (error) {
      answer = { error: error instanceof Error ? error.message : String(error) };
    }
    socket.write(`${JSON.stringify(answer)}\n`);
  });
}

function execute(world: World, command: Command): unknown {
  const text = (key: string): string => {
    const value = command[key];
    if (typeof value !== "string") throw new Error(`${key} must be a string`);
    return value;
  };
  const number = (key: string): number => {
    const value = command[key];
    if (typeof value !== "number") throw new Error(`${key} must be a number`);
    return value;
  };
  /** By domain name. */
  const machine = (key: string): string => {
    const id = world.idOf(text(key));
    if (id === undefined) throw new Error(`no domain ${text(key)}`);
    return id;
  };
  switch (command.method) {
    case "hosts":
      return Object.values(world.data.hosts).map((host) => ({
        id: host.id,
        reachable: host.reachable,
        domains: Object.values(host.domains).map(({ name, state }) => ({ name, state })),
        volumes: Object.keys(host.volumes).toSorted(),
        bridges: host.network.bridges.map((bridge) => bridge.bridge),
      }));
    case "guest":
      return world.insideGuest(machine("name"));
    case "reaches":
      return reaches(world.data, machine("from"), machine("to"));
    case "violations":
      return world.violations;
    case "set_memory":
      return world.setMemoryBehind(text("host"), machine("name"), number("memory_mib"));
    case "start_foreign":
      return world.startForeign(text("host"), {
        id: text("id"),
        name: text("name"),
        vcpus: number("vcpus"),
        memoryMib: number("memory_mib"),
      });
    case "stop_foreign":
      return world.stopForeign(text("host"), machine("name"));
    case "set_reachable":
      return world.setReachable(text("host"), command["reachable"] === true);
    case "inject":
      return world.faults.inject({
        ...(command["host"] === undefined ? {} : { hostId: text("host") }),
        ...(command["call"] === undefined ? {} : { call: text("call") }),
        effect: effectOf(text("effect")),
      });
    default:
      throw new Error(`no method ${String(command.method)}`);
  }
}

const effects = ["fail", "fail_after", "hang", "hang_after"] as const;

function effectOf(name: string): (typeof effects)[number] {
  const effect = effects.find((known) => known === name);
  if (effect === undefined) throw new Error(`effect must be one of ${effects.join(", ")}`);
  return effect;
}
