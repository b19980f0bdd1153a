/**
 * gRPC on node:http2, as much of it as a plugin needs: unary calls, streams of answers, the plugin host's
 * own services, refusals. Knows no
 * provider: what it answers is handed in. Source: grpc's PROTOCOL-HTTP2.md and reference/terraform.md 2.2.
 */
import { once } from "node:events";
import {
  constants,
  createSecureServer,
  createServer,
  type Http2Server,
  type ServerHttp2Stream,
} from "node:http2";
import type { Certificate } from "./certificate.ts";
import { DecodeError } from "./protobuf.ts";

export const statuses = {
  ok: 0,
  unknown: 2,
  invalidArgument: 3,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
} as const;
/** go-plugin's own limit for messages of the other side. */
const maxMessageBytes = 256 * 1024 * 1024;

/** Answers a call; undefined when there is no such call. */
export type Answerer = (path: string) => Answer | undefined;
export type Answer =
  | {
      readonly handle: (request: Uint8Array) => Promise<Uint8Array>;
      /** Called once the answer has left, or the caller is gone. */
      readonly sent?: () => void;
    }
  | {
      /** One message after the other; `cancelled` is aborted when the caller is gone. */
      readonly stream: (request: Uint8Array, cancelled: AbortSignal) => AsyncIterable<Uint8Array>;
    };

export interface ServerOptions {
  readonly answer: Answerer;
  /** Paths whose stream is kept open and silent: the host opens them at once and tolerates silence. */
  readonly silent: (path: string) => boolean;
  /** Both absent: plain text, for a debugger. */
  readonly tls: { readonly own: Certificate; readonly clientCertificatePem: string } | undefined;
  /** A thrown error that is no fault of the caller. */
  readonly onBug: (error: unknown) => void;
}

export interface GrpcServer {
  /** Made, not yet listening. */
  readonly server: Http2Server;
  /** Answers every call that waits with INTERNAL and these words; resolves when they have left. */
  readonly refuseAll: (message: string) => Promise<void>;
}

export function createGrpcServer(options: ServerOptions): GrpcServer {
  const { tls } = options;
  const server =
    tls === undefined
      ? createServer()
      : createSecureServer({
          key: tls.own.keyPem,
          cert: tls.own.certificatePem,
          ca: tls.clientCertificatePem,
          requestCert: true,
          rejectUnauthorized: true,
          minVersion: "TLSv1.2",
        });
  const waiting = new Set<ServerHttp2Stream>();
  server.on("stream", (stream, headers) => {
    const path = String(headers[":path"]);
    if (!options.silent(path)) {
      waiting.add(stream);
      stream.on("close", () => waiting.delete(stream));
    }
    serve(stream, path, options);
  });
  server.on("sessionError", () => undefined); // the host breaks off when it is done; its end is watched elsewhere
  return {
    server: server as Http2Server,
    async refuseAll(message) {
      await Promise.all(
        Array.from(waiting, (stream) => {
          const closed = new Promise((resolve) => stream.once("close", resolve));
          refuse(stream, statuses.internal, message);
          return closed;
        }),
      );
    },
  };
}

function serve(stream: ServerHttp2Stream, path: string, options: ServerOptions): void {
  stream.on("error", () => undefined); // a call that the host cancelled
  if (options.silent(path)) {
    stream.respond(responseHeaders);
    stream.resume();
    return;
  }
  const answer = options.answer(path);
  if (answer === undefined) {
    refuse(stream, statuses.unimplemented, `unknown call ${path}`);
    stream.resume();
    return;
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxMessageBytes + 5) chunks.push(chunk);
  });
  stream.on("end", () => {
    const request = bytes <= maxMessageBytes + 5 ? readFrame(Buffer.concat(chunks)) : undefined;
    if (request === undefined) {
      refuse(stream, statuses.invalidArgument, "not one uncompressed message");
      return;
    }
    const failed = (error: unknown) => {
      if (!(error instanceof DecodeError)) options.onBug(error);
      const status = error instanceof DecodeError ? statuses.invalidArgument : statuses.internal;
      refuse(stream, status, error instanceof Error ? error.message : String(error));
    };
    if ("stream" in answer) {
      pour(stream, answer.stream, request).catch(failed);
      return;
    }
    if (answer.sent !== undefined) stream.on("close", answer.sent);
    answer.handle(request).then((message) => reply(stream, message), failed);
  });
}

/** Sends what the handler yields, no faster than the caller reads. */
async function pour(
  stream: ServerHttp2Stream,
  handler: Extract<Answer, { stream: unknown }>["stream"],
  request: Uint8Array,
): Promise<void> {
  const cancel = new AbortController();
  stream.on("close", () => cancel.abort(new Error("the caller is gone")));
  for await (const message of handler(request, cancel.signal)) {
    if (stream.destroyed) return;
    if (!stream.headersSent) begin(stream);
    if (!stream.write(frame(message)))
      await once(stream, "drain", { signal: cancel.signal }).catch(() => undefined); // or the caller is gone
  }
  if (stream.destroyed) return;
  if (!stream.headersSent) begin(stream);
  stream.end();
}

const responseHeaders = { ":status": 200, "content-type": "application/grpc+proto" };

function begin(stream: ServerHttp2Stream): void {
  stream.respond(responseHeaders, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(statuses.ok) }));
}

function reply(stream: ServerHttp2Stream, message: Uint8Array): void {
  if (stream.destroyed) return;
  begin(stream);
  stream.end(frame(message));
}

function refuse(stream: ServerHttp2Stream, status: number, message: string): void {
  if (stream.destroyed) return;
  if (stream.headersSent) {
    stream.close(constants.NGHTTP2_INTERNAL_ERROR); // a stream that broke off half way is no whole answer
    return;
  }
  const headers = {
    ...responseHeaders,
    "grpc-status": String(status),
    "grpc-message": percentEncoded(message),
  };
  stream.respond(headers, { endStream: true });
}

/** As PROTOCOL-HTTP2.md wants it: visible ASCII stays, `%` and every other byte of UTF-8 are escaped. */
function percentEncoded(text: string): string {
  return Array.from(Buffer.from(text), (byte) =>
    byte >= 0x20 && byte <= 0x7e && byte !== 0x25
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
  ).join("");
}

/** One flag byte (not compressed), four of length, the message. */
export function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** The message of exactly one frame; undefined for anything else. */
export function readFrame(bytes: Buffer): Uint8Array | undefined {
  if (bytes.length < 5 || bytes[0] !== 0) return undefined;
  return bytes.readUInt32BE(1) === bytes.length - 5 ? bytes.subarray(5) : undefined;
}
