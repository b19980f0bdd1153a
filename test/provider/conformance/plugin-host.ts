/**
 * Starts a provider as Terraform's plugin host (go-plugin) does and calls it: cookie, handshake line, AutoMTLS, gRPC on
 * HTTP/2. Speaks with protobufjs and @msgpack/msgpack only, so that it judges the provider's own codecs from outside.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { type ClientHttp2Session, connect } from "node:http2";
import { connect as connectSocket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { makeCertificate } from "@drover/provider/plugin/certificate";
import { decode, ExtensionCodec, encode } from "@msgpack/msgpack";
import protobuf from "protobufjs";

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

export class GrpcError extends Error {
  override readonly name = "GrpcError";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A value that is known only after apply. */
export class UnknownValue {}
const extensions = new ExtensionCodec();
extensions.register({
  type: 0,
  encode: (value) => (value instanceof UnknownValue ? new Uint8Array([0]) : null),
  decode: () => new UnknownValue(),
});

export type Fields = Record<string, unknown>;
export interface WireDiagnostic {
  readonly severity: number;
  readonly summary: string;
  readonly detail: string;
  readonly attribute?: { steps: Fields[] } | null;
}

export function toValue(value: unknown): Fields {
  return { msgpack: encode(value, { extensionCodec: extensions }) };
}
export function fromValue(value: unknown): unknown {
  const { msgpack } = value as { msgpack: Uint8Array };
  return decode(msgpack, { extensionCodec: extensions });
}

export class PluginHost {
  readonly child: ChildProcess;
  readonly line: string;
  private readonly session: ClientHttp2Session;
  private readonly output: { stderr: string };

  private constructor(
    child: ChildProcess,
    line: string,
    session: ClientHttp2Session,
    output: { stderr: string },
  ) {
    this.child = child;
    this.line = line;
    this.session = session;
    this.output = output;
  }

  /** Resolves once the provider has said where it listens; the streams that go-plugin opens at once are open. */
  static async start(
    executable: string,
    options: { readonly env?: Record<string, string>; readonly plain?: boolean } = {},
  ): Promise<PluginHost> {
    const own = makeCertificate(Date.now());
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
        const pem = toPem(certificate);
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
    const host = new PluginHost(child, line, session, output);
    host.open("/plugin.GRPCStdio/StreamStdio");
    host.open("/plugin.GRPCBroker/StartStream");
    return host;
  }

  get stderr(): string {
    return this.output.stderr;
  }

  /** Calls `tfplugin6.Provider/<name>`. @throws GrpcError when the status is not OK. */
  async call(name: string, request: Fields = {}): Promise<Fields> {
    const requestType = protocol.lookupType(`tfplugin6.${name}.Request`);
    const responseType = protocol.lookupType(`tfplugin6.${name}.Response`);
    const bytes = await this.raw(
      `/tfplugin6.Provider/${name}`,
      requestType.encode(requestType.fromObject(request)).finish(),
    );
    return responseType.toObject(responseType.decode(bytes), {
      defaults: true,
      arrays: true,
      longs: Number,
    });
  }

  /** One unary call, bytes in and out. */
  raw(path: string, message: Uint8Array): Promise<Uint8Array> {
    const stream = this.open(path);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([head, message]));
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let status = "";
      let text = "";
      const note = (headers: Record<string, unknown>) => {
        status = String(headers["grpc-status"] ?? status);
        text = decodeURIComponent(String(headers["grpc-message"] ?? text));
      };
      stream.on("response", note);
      stream.on("trailers", note);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("close", () => {
        if (status === "0") resolve(Buffer.concat(chunks).subarray(5));
        else reject(new GrpcError(Number(status === "" ? "2" : status), text));
      });
    });
  }

  /** As the host ends a provider: Shutdown, then wait. Resolves with its exit code. */
  async shutdown(): Promise<number | null> {
    const ended = this.ended();
    await this.raw("/plugin.GRPCController/Shutdown", new Uint8Array(0));
    const code = await ended;
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

function toPem(base64: string): string {
  const padded = base64 + "=".repeat((4 - (base64.length % 4)) % 4);
  const lines = (padded.match(/.{1,64}/g) ?? []).join("\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

export function diagnosticsOf(answer: Fields): readonly WireDiagnostic[] {
  return answer["diagnostics"] as readonly WireDiagnostic[];
}
