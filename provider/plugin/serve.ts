/**
 * Runs a provider as a plugin process: listens on a socket of its own, says where, answers until the plugin host says
 * Shutdown or is gone. Ctrl-C reaches the whole process group, so it is ignored: the host calls StopProvider instead.
 */
import { mkdtempSync, rmSync } from "node:fs";
import type { Http2Server } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CallName, calls, providerService, type StreamName } from "#protocol/service";
import { providerAddress } from "./address.ts";
import { makeCertificate } from "./certificate.ts";
import { type Answerer, createGrpcServer } from "./grpc.ts";
import { handshakeLine, protocolVersion, readGreeting } from "./handshake.ts";
import { crashText, type Log, makeLog } from "./log.ts";
import {
  type Decoded,
  decode,
  type Encodable,
  encode,
  type Fields,
  field,
  type Message,
  message,
} from "./protobuf.ts";

export type RequestOf<Name extends CallName> = Decoded<(typeof calls)[Name]["request"]>;
export type ResponseOf<Name extends CallName> = Encodable<
  Decoded<(typeof calls)[Name]["response"]>
>;
/** One handler a call; each answers, yields or throws, and never hangs after StopProvider. */
export type Handlers = {
  readonly [Name in CallName]?: Name extends StreamName
    ? (request: RequestOf<Name>, cancelled: AbortSignal) => AsyncIterable<ResponseOf<Name>>
    : (request: RequestOf<Name>) => Promise<ResponseOf<Name>>;
};
export interface Provider {
  readonly handlers: Handlers;
}

/** How long the host may keep no connection before it counts as gone. */
const abandonedMs = 1000;
const parentCheckMs = 2000;
const maxTemporaryLength = 90;
/** Between the last byte of the answer to Shutdown and the end; the host waits two seconds. */
const farewellMs = 5;

/** Serves until the end of the process. `makeProvider` gets the log; it must load nothing slow. */
export function servePlugin(makeProvider: (log: Log) => Provider): void {
  const log = makeLog((line) => process.stderr.write(line), Date.now);
  const debug = process.argv.includes("--debug");
  const greeting = readGreeting(process.env);
  if (greeting.kind === "refused" && !debug) {
    console.error(greeting.message);
    process.exitCode = 1;
    return;
  }
  // A unix socket's path has room for 107 bytes; temporary folders of macOS and of builds are long.
  const wanted = process.env["PLUGIN_UNIX_SOCKET_DIR"] || tmpdir(); // named by hosts that run plugins in containers
  const temporary = wanted.length < maxTemporaryLength ? wanted : "/tmp";
  const directory = mkdtempSync(join(temporary, "drover-"));
  const socketPath = join(directory, "p");
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const clientCertificatePem =
    greeting.kind === "plugin" && !debug ? greeting.clientCertificatePem : undefined;
  const tls =
    clientCertificatePem === undefined
      ? undefined
      : { own: makeCertificate(Date.now()), clientCertificatePem };
  const { server, refuseAll } = createGrpcServer({
    answer: answerer(makeProvider(log).handlers, () =>
      setTimeout(() => process.exit(0), farewellMs),
    ),
    silent: (path) =>
      path === "/plugin.GRPCStdio/StreamStdio" || path === "/plugin.GRPCBroker/StartStream",
    tls,
    onBug: (error) => process.stderr.write(crashText(error)),
  });
  installCrashText(refuseAll);
  server.listen(socketPath, () => {
    if (debug) announceDebug(socketPath);
    else if (greeting.kind === "plugin")
      process.stdout.write(
        handshakeLine({ socketPath, certificateDer: tls?.own.der, multiplex: greeting.multiplex }),
      );
  });
  if (debug) {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(0));
    return;
  }
  process.on("SIGINT", () => undefined);
  endWithHost(server);
}

/** How long the last words may take; the host reads them at once. */
const lastWordsMs = 500;

/**
 * Terraform shows the stack that it finds on standard error. OpenTofu (1.11) drops it unless it logs, so the calls that
 * wait are told too. Exits with 2, as Go does.
 */
function installCrashText(refuseAll: (message: string) => Promise<void>): void {
  let crashed = false;
  const crash = (error: unknown) => {
    if (crashed) return;
    crashed = true;
    const end = () => process.exit(2);
    setTimeout(end, lastWordsMs);
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const told = refuseAll(`The provider crashed; please report this.\n${stack}`);
    process.stderr.write(crashText(error), () => void told.then(end, end));
  };
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
}

/** The host was killed: its connection closes, and init becomes our parent. */
function endWithHost(server: Http2Server): void {
  let sessions = 0;
  server.on("session", (session) => {
    sessions += 1;
    session.on("close", () => {
      sessions -= 1;
      if (sessions > 0) return;
      setTimeout(() => {
        if (sessions === 0) process.exit(0);
      }, abandonedMs).unref();
    });
  });
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(0);
  }, parentCheckMs).unref();
}

/** What to set so that Terraform uses this process instead of starting one. */
function announceDebug(socketPath: string): void {
  const reattach = {
    [providerAddress]: {
      Protocol: "grpc",
      ProtocolVersion: protocolVersion,
      Pid: process.pid,
      Test: true,
      Addr: { Network: "unix", String: socketPath },
    },
  };
  process.stdout.write(`TF_REATTACH_PROVIDERS='${JSON.stringify(reattach)}'\n`);
}

const empty = message("Empty", {});
const health = message("HealthCheckResponse", { status: field.integer(1) });
const serving = 1;

/** Maps a gRPC path to what answers it. */
export function answerer(handlers: Handlers, shutdown: () => void): Answerer {
  return (path) => {
    const [, service, name = ""] = path.split("/");
    if (service === "plugin.GRPCController" && name === "Shutdown")
      return { handle: async () => encode(empty, {}), sent: shutdown };
    if (service === "grpc.health.v1.Health" && name === "Check")
      return { handle: async () => encode(health, { status: serving }) };
    if (service !== providerService || !Object.hasOwn(calls, name)) return undefined;
    const call: { request: Message<Fields>; response: Message<Fields>; stream?: true } =
      calls[name as CallName];
    const handle = handlers[name as CallName] as UnaryHandler | StreamHandler | undefined;
    if (handle === undefined) return undefined;
    if (call.stream === true)
      return {
        async *stream(request, cancelled) {
          const events = (handle as StreamHandler)(decode(call.request, request), cancelled);
          for await (const event of events) yield encode(call.response, event as never);
        },
      };
    return {
      handle: async (request) =>
        encode(
          call.response,
          (await (handle as UnaryHandler)(decode(call.request, request))) as never,
        ),
    };
  };
}

type Response = Readonly<Record<string, unknown>>;
type UnaryHandler = (request: unknown) => Promise<Response>;
type StreamHandler = (request: unknown, cancelled: AbortSignal) => AsyncIterable<Response>;
