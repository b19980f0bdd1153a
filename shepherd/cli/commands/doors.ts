/**
 * `drover ssh | forward | connect | console`: into a machine's LAN over the shepherd and its host, wherever the machine is. No
 * port of a LAN is open to the world for it.
 */
import { spawn } from "node:child_process";
import { createServer, type Socket } from "node:net";
import { type Duplex, PassThrough, Readable, Writable } from "node:stream";
import type { Command } from "commander";
import { path } from "#api/client";
import type { MachineView } from "#api/contract";
import type { ConsolePass } from "#api/contract-passes";
import { type Context, define, exitCodes, type Streams, target } from "#cli/command";
import type { ExitCode } from "#cli/output";
import { Fault } from "#model/fault";

type Target = ReturnType<typeof target>;

export function addDoors(program: Command, streams: Streams): void {
  define<[Target, string], object>(program, streams, {
    name: "connect",
    summary: "bytes to and from a TCP port of a machine, on standard input and output",
    setUp: (command) =>
      command.argument("<environment/machine>", "the machine", target).argument("<port>"),
    async action(context, _options, where, port) {
      const machine = await machineOf(context, where);
      await join(context, machine, wholePort(port), process.stdin, process.stdout);
      return exitCodes.ok;
    },
  });

  define<[Target, string[]], { user?: string }>(program, streams, {
    name: "ssh",
    summary:
      "a login at a machine with this computer's ssh and keys, through its network's gateway",
    setUp: (command) =>
      command
        .argument("<environment/machine>", "the machine", target)
        .argument("[ssh-arguments...]", "a command, or options of ssh after --")
        .option("--user <name>", "the user in the machine", "root")
        .passThroughOptions(),
    async action(context, options, where, given) {
      const { id } = await machineOf(context, where);
      const self = [process.execPath, ...process.execArgv, process.argv[1] ?? "drover"];
      const proxy = [
        ...self,
        "connect",
        ...endpointOptions(context),
        `${where.environment}/${where.name}`,
        "%p",
      ];
      const argv = [
        "-o",
        `ProxyCommand=${proxy.map(quote).join(" ")}`,
        // The key belongs to the machine, whatever address another environment's machine has.
        "-o",
        `HostKeyAlias=drover-${id}`,
        `${options.user ?? "root"}@${where.name}.${where.environment}.internal`,
        // ssh itself tells its options from a command, also after the destination.
        ...(given[0] === "--" ? given.slice(1) : given),
      ];
      const child = spawn("ssh", argv, { stdio: "inherit" });
      return await new Promise<ExitCode>((resolve, reject) => {
        child.on("error", reject);
        child.on("close", (code) => resolve((code ?? 137) as ExitCode));
      });
    },
  });

  define<[Target | undefined], object>(program, streams, {
    name: "console",
    summary: "the serial console of a machine, wherever it runs; Ctrl-] ends it",
    description:
      "With DROVER_PASS and no machine: the console that the pass opens. Whoever else has the console open is hung up.",
    setUp: (command) =>
      command.argument("[environment/machine]", "the machine", (text: string) => target(text)),
    async action(context, _options, where) {
      const pass = where === undefined ? process.env["DROVER_PASS"] : await passOf(context, where);
      if (pass === undefined)
        throw new Fault("request.invalid", {
          where: "environment/machine",
          attribute: "machine",
          problem: "name a machine, or set DROVER_PASS",
        });
      await speak(context, pass);
      return exitCodes.ok;
    },
  });

  define<[Target, string], { once?: boolean }>(program, streams, {
    name: "forward",
    summary: "listen on this computer and lead connections to a port of a machine",
    description: "Example: drover forward ring/rank-0 8080:80",
    setUp: (command) =>
      command
        .argument("<environment/machine>", "the machine", target)
        .argument("<local:port>", "8080:80, or 127.0.0.1:8080:80; 0 chooses a free local port")
        .option("--once", "end after the first connection"),
    async action(context, options, where, ports) {
      const machine = await machineOf(context, where);
      const parts = ports.split(":");
      const port = wholePort(parts.at(-1) ?? "");
      const local = parts.length === 1 ? port : wholePort(parts.at(-2) ?? "", 0);
      const address = parts.length === 3 ? (parts[0] ?? "") : "127.0.0.1";
      await new Promise<void>((resolve, reject) => {
        const server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
          if (options.once === true) server.close();
          join(context, machine, port, socket, socket).catch((error: unknown) => {
            context.tell(
              `connection ended: ${error instanceof Error ? error.message : String(error)}\n`,
            );
            socket.destroy();
          });
        });
        server.on("error", reject);
        server.on("close", () => resolve());
        server.listen(local, address, () => {
          const bound = server.address();
          const at = typeof bound === "object" && bound !== null ? bound.port : local;
          context.tell(`${address}:${at} leads to ${where.environment}/${where.name}:${port}\n`);
        });
      });
      return exitCodes.ok;
    },
  });
}

async function machineOf(context: Context, where: Target): Promise<MachineView> {
  const { items } = await context.client.get<{ items: MachineView[] }>("/v1/machines", {
    query: { environment: where.environment, name: where.name },
  });
  const [machine] = items;
  if (machine === undefined)
    throw new Fault("object.unknown", {
      kind: "machine",
      id: `${where.environment}/${where.name}`,
    });
  return machine;
}

async function passOf(context: Context, where: Target): Promise<string> {
  const { id } = await machineOf(context, where);
  const given = await context.client.call<ConsolePass>(
    "POST",
    path`/v1/machines/${id}/console-passes`,
  );
  return given.pass;
}

/** Ctrl-], as telnet and virsh have it. */
const escape = 0x1d;

/** Keys go to the console one by one, until Ctrl-] or the end of standard input, or until the console is gone. */
async function speak(context: Context, pass: string): Promise<void> {
  const { stdin, stdout } = process;
  const keys = new PassThrough();
  stdin.on("data", (chunk: Buffer) => {
    const at = stdin.isTTY ? chunk.indexOf(escape) : -1;
    if (at < 0) keys.write(chunk);
    else keys.end(chunk.subarray(0, at));
  });
  stdin.on("end", () => keys.end());
  if (stdin.isTTY) stdin.setRawMode(true);
  try {
    const answer = await context.client.openStream("/v1/console", { pass, body: keys });
    if (stdin.isTTY) context.tell("Ctrl-] ends it.\n");
    answer.pipe(stdout);
    await new Promise<void>((resolve, reject) => {
      answer.on("end", () => resolve());
      answer.on("error", reject);
    });
  } finally {
    if (stdin.isTTY) stdin.setRawMode(false);
    stdin.pause();
  }
}

/** Resolves when the machine has ended the connection. */
async function join(
  context: Context,
  machine: MachineView,
  port: number,
  from: Readable | Duplex,
  to: Writable,
): Promise<void> {
  const answer = await context.client.openStream(path`/v1/machines/${machine.id}/connect`, {
    query: { port },
    body: from,
  });
  answer.pipe(to);
  await new Promise<void>((resolve, reject) => {
    answer.on("end", () => resolve());
    answer.on("error", reject);
  });
  from.destroy();
}

function wholePort(text: string, least = 1): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < least || port > 65_535)
    throw new Fault("request.invalid", {
      where: "port",
      attribute: "port",
      problem: `${text} is no port`,
    });
  return port;
}

function endpointOptions(context: Context): readonly string[] {
  // A token comes by the environment: a command line is anybody's to read.
  return ["--endpoint", context.endpoint];
}

function quote(text: string): string {
  return /^[\w%@:=+,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
