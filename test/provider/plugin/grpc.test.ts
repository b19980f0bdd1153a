/** The hand-written gRPC server under an independent client, grpc-js: statuses, streams, sizes, cancelling, mutual TLS. */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:http2";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificate } from "@drover/provider/plugin/certificate";
import { type Answerer, createGrpcServer, type ServerOptions } from "@drover/provider/plugin/grpc";
import { DecodeError } from "@drover/provider/plugin/protobuf";
import grpc from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { makeClientCertificate } from "../conformance/client-certificate.ts";

let directory = "";
let closing: (() => void)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "drover-grpc-"));
});
afterEach(() => {
  for (const close of closing) close();
  closing = [];
  rmSync(directory, { recursive: true, force: true });
});

const bugs: unknown[] = [];
async function serve(answer: Answerer, tls?: ServerOptions["tls"]): Promise<string> {
  const path = join(directory, "s");
  const { server } = createGrpcServer({
    answer,
    silent: (name) => name === "/silent",
    tls,
    onBug: (error) => bugs.push(error),
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closing.push(() => server.close());
  return `unix:${path}`;
}
function client(target: string, credentials = grpc.credentials.createInsecure()): grpc.Client {
  const made = new grpc.Client(target, credentials, {
    "grpc.ssl_target_name_override": "localhost",
    "grpc.default_authority": "localhost",
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
  closing.push(() => made.close());
  return made;
}
const same = (bytes: Buffer) => bytes;
function unary(from: grpc.Client, path: string, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    from.makeUnaryRequest(path, same, same, bytes, (error, answer) =>
      answer === undefined ? reject(error ?? new Error("no answer")) : resolve(answer),
    );
  });
}
const echo: Answerer = (path) => {
  if (path === "/echo") return { handle: async (request) => request };
  if (path === "/garbage")
    return {
      handle: async () => {
        throw new DecodeError("no: 100 %, ünlesbar");
      },
    };
  if (path === "/bug")
    return {
      handle: async () => {
        throw new RangeError("ours");
      },
    };
  return undefined;
};

test.each([0, 1, 16_384, 5_000_000])("%d bytes there and back", async (size) => {
  const bytes = Buffer.alloc(size, 7);
  const answer = await unary(client(await serve(echo)), "/echo", bytes);
  expect(answer.equals(bytes)).toBe(true);
});

test("a hundred calls at once on one connection", async () => {
  const from = client(await serve(echo));
  const sent = Array.from({ length: 100 }, (_, n) => Buffer.from(`call ${n}`));
  expect(await Promise.all(sent.map((bytes) => unary(from, "/echo", bytes)))).toEqual(sent);
});

test.each([
  ["/nothing", grpc.status.UNIMPLEMENTED, "unknown call /nothing"],
  ["/garbage", grpc.status.INVALID_ARGUMENT, "no: 100 %, ünlesbar"],
  ["/bug", grpc.status.INTERNAL, "ours"],
])("%s is refused with its status and its words", async (path, code, details) => {
  const refused = unary(client(await serve(echo)), path, Buffer.from("x"));
  await expect(refused).rejects.toMatchObject({ code, details });
  if (path === "/bug") expect(bugs.pop()).toBeInstanceOf(RangeError);
});

test.each([
  ["compressed, which was never agreed", "01 00000001 41"],
  ["cut off", "00 00000005 41"],
  ["with bytes after it", "00 00000001 41 42"],
  ["with no head", "00 00"],
  ["absent", ""],
])("a message that is %s is refused as an invalid argument", async (_, hex) => {
  const target = await serve(echo);
  const session = connect("http://localhost", {
    createConnection: () => connectSocket(target.slice("unix:".length)),
  });
  closing.push(() => session.destroy());
  const stream = session.request({ ":method": "POST", ":path": "/echo", te: "trailers" });
  const headers = new Promise<Record<string, unknown>>((resolve) =>
    stream.once("response", resolve),
  );
  stream.end(Buffer.from(hex.replaceAll(" ", ""), "hex"));
  expect((await headers)["grpc-status"]).toBe(String(grpc.status.INVALID_ARGUMENT));
});

test("a stream comes one message after the other, also an empty one, or breaks off with a status", async () => {
  const from = client(
    await serve((path) => ({
      async *stream(request) {
        if (path === "/bad") throw new DecodeError("bad from the start");
        for (let n = 0; n < Number(request[0]); n++) {
          if (path === "/half" && n === 1) throw new RangeError("half way");
          yield Buffer.from(`${n}`);
        }
      },
    })),
  );
  const collect = async (path: string, count: number) => {
    const got: string[] = [];
    const stream = from.makeServerStreamRequest(path, same, same, Buffer.from([count]));
    for await (const message of stream as AsyncIterable<Buffer>) got.push(message.toString());
    return got;
  };
  expect(await collect("/s", 3)).toEqual(["0", "1", "2"]);
  expect(await collect("/s", 0)).toEqual([]);
  await expect(collect("/bad", 1)).rejects.toMatchObject({ code: grpc.status.INVALID_ARGUMENT });
  await expect(collect("/half", 3)).rejects.toMatchObject({ code: expect.any(Number) });
  expect(bugs.pop()).toMatchObject({ message: "half way" });
});

test("a reader that takes its time is not drowned, and one that leaves ends the stream", async () => {
  let made = 0;
  let left: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  const chunk = Buffer.alloc(100_000);
  const target = await serve(() => ({
    async *stream(_, cancelled) {
      try {
        while (!cancelled.aborted) {
          made += 1;
          yield chunk;
        }
      } finally {
        left();
      }
    },
  }));
  const stream = client(target).makeServerStreamRequest("/s", same, same, Buffer.alloc(0));
  await new Promise((resolve) => stream.once("data", resolve));
  stream.pause();
  let before = -1;
  while (before !== made) {
    before = made;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(made).toBeLessThan(100); // what the windows hold, not all there is
  stream.on("error", () => undefined); // cancelled by us
  stream.cancel();
  await gone;
});

test("mutual TLS with the hand-written certificate: the host's own is let in, a stranger is not", async () => {
  const own = makeCertificate(Date.now());
  const host = await makeClientCertificate();
  const stranger = await makeClientCertificate();
  const target = await serve(echo, { own, clientCertificatePem: host.certificatePem });
  const as = ({ keyPem, certificatePem }: { keyPem: string; certificatePem: string }) =>
    client(
      target,
      grpc.credentials.createSsl(
        Buffer.from(own.certificatePem),
        Buffer.from(keyPem),
        Buffer.from(certificatePem),
      ),
    );
  expect(await unary(as(host), "/echo", Buffer.from("hello"))).toEqual(Buffer.from("hello"));
  await expect(unary(as(stranger), "/echo", Buffer.from("hello"))).rejects.toMatchObject({
    code: grpc.status.UNAVAILABLE,
  });
});
