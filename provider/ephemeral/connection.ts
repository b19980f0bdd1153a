/**
 * Ephemeral resource `drover_connection`: a port of this computer that leads to a TCP port of a machine, wherever the
 * machine is, while Terraform runs. For other providers and provisioners that must reach into a LAN of which nothing is
 * open to the world. It ends with the run, and nothing of it is kept.
 */
import { randomUUID } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { path } from "@drover/shepherd/api/client";
import { attributes } from "#schema/attribute";
import { defineEphemeral } from "#schema/ephemeral";
import type { PrivateData, Work } from "#schema/resource";
import { wholeNumber } from "#schema/validators";
import { reportError } from "../resources/problems.ts";
import { machineId } from "./passes.ts";

/** Only programs of this computer may use it. */
const loopback = "127.0.0.1";

const declared = attributes({
  machine: {
    type: "string",
    required: true,
    description: "Id of the machine, or `environment/name`.",
  },
  port: {
    type: "number",
    required: true,
    description: "TCP port of the machine.",
    validators: [wholeNumber({ min: 1, max: 65_535 })],
  },
  local_address: {
    type: "string",
    computed: true,
    description: "Address of this computer that leads there.",
  },
  local_port: {
    type: "number",
    computed: true,
    description: "Port of this computer that leads there.",
  },
});

/** What listens now, by the id that private data carries from open to close. */
const listening = new Map<string, Listener>();
interface Listener {
  readonly server: Server;
  readonly sockets: Set<Socket>;
}

export const connection = defineEphemeral({
  name: "drover_connection",
  description: "A local port that leads to a TCP port of a machine while Terraform runs.",
  attributes: declared,
  open: async (work, { machine, port }) => {
    try {
      const id = await machineId(work, machine);
      if (id === undefined) return null;
      const listener = await listen(work, id, port);
      const bound = listener.server.address();
      const key = randomUUID();
      listening.set(key, listener);
      return {
        result: {
          machine,
          port,
          local_address: loopback,
          local_port: typeof bound === "object" && bound !== null ? bound.port : 0,
        },
        private: { key },
      };
    } catch (error) {
      reportError(work, error, {
        what: `connect to port ${port} of "${machine}"`,
        attributes: ["machine", "port"],
      });
      return null;
    }
  },
  close: async (_work, kept: PrivateData) => {
    const key = String(kept["key"]);
    const listener = listening.get(key);
    listening.delete(key);
    if (listener === undefined) return;
    for (const socket of listener.sockets) socket.destroy();
    await new Promise<void>((resolve) => listener.server.close(() => resolve()));
  },
});

async function listen(work: Work, id: string, port: number): Promise<Listener> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    lead(work, socket, { id, port }).catch((error: unknown) => {
      work.log(`connection to port ${port} of machine ${id} ended: ${String(error)}`);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, loopback, () => resolve());
  });
  server.unref(); // a Terraform that is killed must not leave this process behind
  return { server, sockets };
}

/** Carries bytes both ways until the machine has ended the connection. */
async function lead(
  { client }: Work,
  socket: Socket,
  to: { readonly id: string; readonly port: number },
): Promise<void> {
  const answer = await client.openStream(path`/v1/machines/${to.id}/connect`, {
    query: { port: to.port },
    body: socket,
  });
  answer.pipe(socket);
  await new Promise<void>((resolve, reject) => {
    answer.on("end", () => resolve());
    answer.on("error", reject);
  });
}
