/**
 * Starts a provider as Terraform's plugin host (go-plugin) does and calls it: cookie, handshake line, AutoMTLS, gRPC on
 * HTTP/2. Speaks with protobufjs and @msgpack/msgpack only, so that it judges the provider's own codecs from outside.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type ClientHttp2Session, connect } from "node:http2";
import { connect as connectSocket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import protobuf from "protobufjs";
import { type ClientCertificate, makeClientCertificate, toPem } from "./client-certificate.ts";

const protocol = protobuf.parse(
  readFileSync(join(import.meta.dirname, "tfplugin6.proto"), "utf8"),
  {
    keepCase: true,
  },
).root;

/** What the host hands to the provider; a test may leave out or change what it likes. */
export const hostEnvironment = {
  TF_PLUGIN_MAGIC_COOKIE: "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
  PLUGIN_PROTOCOL_VERSIONS: "5,6",
  PLUGIN_MIN_PORT: "10000",
  PLUGIN_MAX_PORT: "25000",
};

/** go-plugin waits two seconds before it kills; a busy machine that runs tests needs longer. */
const shutdownMs = 20_000;

export class GrpcError extends Error {
  override readonly name = "GrpcError";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Fields = Record<string, unknown>;
export interface WireDiagnostic {
  readonly severity: number;
  readonly summary: string;
  readonly detail: string;
  readonly attribute?: { steps: Fields[] } | null;
}

export class PluginHost {
  readonly child: ChildProcess;
  readonly line: string;
  /** What this host proves itself with; absent without AutoMTLS. */
  readonly certificate: ClientCertificate | undefined;
  private readonly session: ClientHttp2Session;
  private readonly output: { stderr: string };

  private constructor(
    child: ChildProcess,
    line: string,
    session: ClientHttp2Session,
    more: { output: { stderr: string }; certificate: ClientCertificate | undefined },
  ) {
    this.child = child;
    this.line = line;
    this.session = session;
    this.output = more.output;
    this.certificate = more.certificate;
  }

  /** Resolves once the provider has said where it listens; the streams that go-plugin opens at once are open. */
  static async start(
    executable: string,
    options: { readonly env?: Record<string, string>; readonly plain?: boolean } = {},
  ): Promise<PluginHost> {
    const own = await makeClientCertificate();
    const child = spawn(executable, [], {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        ...hostEnvironment,
        ...(options.plain === true ? {} : { PLUGIN_CLIENT_CERT: own.certificatePem }),
        ...options.env,
      },
    });
    const output = { stderr: "" };
    child.stderr.on("data", (chunk: Buffer) => {
      output.stderr += chunk.toString();
    });
    const line = await firstLine(child, output);
    const [, , , path = "", , certificate = ""] = line.trim().split("|");
    const session = connect(certificate === "" ? "http://localhost" : "https://localhost", {
      createConnection: () => {
        if (certificate === "") return connectSocket(path);
        const pem = toPem("CERTIFICATE", Buffer.from(certificate, "base64"));
        return connectTls({
          path,
          servername: "localhost",
          ca: pem, // as go-plugin: the certificate of the line is the only authority
          key: own.keyPem,
          cert: own.certificatePem,
          ALPNProtocols: ["h2"],
        });
      },
    });
    await new Promise((resolve, reject) => {
      session.once("connect", resolve);
      session.once("error", reject);
    });
    session.on("error", () => undefined); // a provider may end right after its answer; each call tells its own fate
    const host = new PluginHost(child, line, session, {
      output,
      certificate: options.plain === true ? undefined : own,
    });
    host.open("/plugin.GRPCStdio/StreamStdio");
    host.open("/plugin.GRPCBroker/StartStream");
    return host;
  }

  get stderr(): string {
    return this.output.stderr;
  }

  /** Resolves once the provider has written this to its log. */
  async said(words: RegExp): Promise<void> {
    while (!words.test(this.output.stderr)) {
      if (this.child.stderr === null || this.child.exitCode !== null)
        throw new Error(`the provider ended without ${words}`);
      await once(this.child.stderr, "data");
    }
  }

  /** Calls `tfplugin6.Provider/<name>`. @throws GrpcError when the status is not OK. */
  async call(name: string, request: Fields = {}): Promise<Fields> {
    const answer = await this.raw(`/tfplugin6.Provider/${name}`, encodeRequest(name, request));
    return decodeAnswer(`${name}.Response`, answer);
  }

  /** A call that is answered by a stream, one event after the other; breaking off cancels it. */
  async *events(name: string, request: Fields = {}): AsyncGenerator<Fields> {
    const messages = this.streamed(`/tfplugin6.Provider/${name}`, encodeRequest(name, request));
    for await (const message of messages) yield decodeAnswer(`${name}.Event`, message);
  }

  /** One unary call, bytes in and out. */
  async raw(path: string, message: Uint8Array): Promise<Uint8Array> {
    const answers: Uint8Array[] = [];
    for await (const answer of this.streamed(path, message)) answers.push(answer);
    const [only, ...more] = answers;
    if (only === undefined || more.length > 0)
      throw new Error(`${answers.length} messages in answer to ${path}`);
    return only;
  }

  /** One call that may answer with any number of messages, bytes in and out. */
  async *streamed(path: string, message: Uint8Array): AsyncGenerator<Uint8Array> {
    const stream = this.open(path);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([head, message]));
    let status = "";
    let text = "";
    const note = (headers: Record<string, unknown>) => {
      status = String(headers["grpc-status"] ?? status);
      text = decodeURIComponent(String(headers["grpc-message"] ?? text));
    };
    stream.on("response", note);
    stream.on("trailers", note);
    let rest = Buffer.alloc(0);
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        rest = Buffer.concat([rest, chunk]);
        while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
          const end = 5 + rest.readUInt32BE(1);
          yield rest.subarray(5, end);
          rest = rest.subarray(end);
        }
      }
    } finally {
      stream.close();
    }
    if (status !== "0") throw new GrpcError(Number(status === "" ? "2" : status), text);
    if (rest.length > 0) throw new Error(`${rest.length} bytes after the last message of ${path}`);
  }

  /** As the host ends a provider: Shutdown, then wait. Resolves with its exit code, null when it had to be killed. */
  async shutdown(): Promise<number | null> {
    const ended = this.ended();
    const late = setTimeout(() => this.child.kill("SIGKILL"), shutdownMs);
    // Providers in Go end without the last byte of their answer; the exit is what counts, to go-plugin too.
    this.raw("/plugin.GRPCController/Shutdown", new Uint8Array(0)).catch(() => undefined);
    const code = await ended;
    clearTimeout(late);
    this.session.destroy();
    return code;
  }

  ended(): Promise<number | null> {
    if (this.child.exitCode !== null) return Promise.resolve(this.child.exitCode);
    return new Promise((resolve) => this.child.once("exit", (code) => resolve(code)));
  }

  /** Breaks the connection without a word, as a killed host does. */
  disconnect(): void {
    this.session.destroy();
  }

  private open(path: string) {
    const stream = this.session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => undefined); // the silent streams end with the session
    return stream;
  }
}

/** Fields that the protocol does not know are refused: a typing error in a test must not pass. */
function encodeRequest(name: string, request: Fields): Uint8Array {
  const type = protocol.lookupType(`tfplugin6.${name}.Request`);
  for (const field of Object.keys(request))
    if (type.fields[field] === undefined) throw new TypeError(`${name} has no field ${field}`);
  return type.encode(type.fromObject(request)).finish();
}
function decodeAnswer(name: string, bytes: Uint8Array): Fields {
  const type = protocol.lookupType(`tfplugin6.${name}`);
  return type.toObject(type.decode(bytes), { defaults: true, arrays: true, longs: Number });
}

/** Every call of the protocol, by name; `streams` are those that answer with events. */
export const callNames: readonly string[] = namesWith("Request");
export const streamNames: readonly string[] = namesWith("Event");
function namesWith(part: string): readonly string[] {
  const { nested = {} } = protocol.lookup("tfplugin6") as protobuf.Namespace;
  return Object.entries(nested)
    .filter(([, type]) => type instanceof protobuf.Type && type.nested?.[part] !== undefined)
    .map(([name]) => name);
}

function firstLine(child: ChildProcess, output: { stderr: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf("\n");
      if (end !== -1) resolve(text.slice(0, end + 1));
    });
    child.once("error", reject);
    child.once("exit", (code) =>
      reject(new Error(`the provider ended with ${code} before its first line\n${output.stderr}`)),
    );
  });
}

export function diagnosticsOf(answer: Fields): readonly WireDiagnostic[] {
  return answer["diagnostics"] as readonly WireDiagnostic[];
}
