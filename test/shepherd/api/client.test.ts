/** The client against real servers: sockets, TLS, tokens, what is repeated and what is not, problems, events. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { makeCertificate } from "@drover/provider/plugin/certificate";
import { ProblemError, path, ShepherdClient, UnreachableError } from "@drover/shepherd/api/client";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";

let directory = "";
const servers: Server[] = [];
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "drover-client-"));
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let sockets = 0;
/** A server on a unix socket; returns its endpoint. */
async function serve(listener: RequestListener): Promise<string> {
  const socket = join(directory, `${++sockets}.sock`);
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return `unix:${socket}`;
}
async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test("sends JSON, token, agent and a key; reads JSON", async () => {
  const endpoint = await serve(async (request, response) => {
    const { method, url, headers } = request;
    response.end(JSON.stringify({ method, url, headers, body: await bodyOf(request) }));
  });
  const client = new ShepherdClient({ endpoint, token: "secret", userAgent: "test/1" });
  const answer = await client.call<Record<string, unknown>>("PUT", path`/v1/machines/${"a/b ?"}`, {
    query: { wait_ms: 5, absent: undefined },
    body: { name: "rank-0" },
  });
  expect(answer).toMatchObject({
    method: "PUT",
    url: "/v1/machines/a%2Fb%20%3F?wait_ms=5",
    body: '{"name":"rank-0"}',
    headers: {
      authorization: "Bearer secret",
      "user-agent": "test/1",
      "content-type": "application/json",
      "idempotency-key": expect.stringMatching(/^[0-9a-f-]{36}$/),
    },
  });
});

test("streams an upload once", async () => {
  let calls = 0;
  const endpoint = await serve(async (request, response) => {
    calls += 1;
    const { length } = await bodyOf(request);
    response.writeHead(length === 3_000_000 ? 201 : 503).end("{}");
  });
  const client = new ShepherdClient({ endpoint });
  const chunks = Array.from({ length: 3 }, () => Buffer.alloc(1_000_000));
  expect(await client.call("PUT", "/v1/blobs/x", { body: Readable.from(chunks) })).toEqual({});
  await expect(
    client.call("PUT", "/v1/blobs/x", { body: Readable.from([Buffer.alloc(1)]) }),
  ).rejects.toBeInstanceOf(ProblemError);
  expect(calls).toBe(2);
});

test("a mutation is repeated with the same key until the shepherd is back", async () => {
  const keys: unknown[] = [];
  const endpoint = await serve((request, response) => {
    keys.push(request.headers["idempotency-key"]);
    if (keys.length === 1) request.socket.destroy();
    else if (keys.length === 2)
      response.writeHead(503).end(JSON.stringify({ code: "x", title: "x" }));
    else response.end('{"ok":true}');
  });
  expect(await new ShepherdClient({ endpoint }).call("POST", "/v1/requests", { body: {} })).toEqual(
    {
      ok: true,
    },
  );
  expect(keys).toHaveLength(3);
  expect(new Set(keys).size).toBe(1);
});

test("a no is not repeated, and carries the whole problem", async () => {
  let calls = 0;
  const problem = {
    type: "about:blank",
    title: "memory",
    status: 403,
    detail: "9 of 8 MiB",
    code: "policy.denied",
    hint: "less",
    details: {},
    decision: "d1",
  };
  const endpoint = await serve((_, response) => {
    calls += 1;
    response
      .writeHead(403, { "content-type": "application/problem+json" })
      .end(JSON.stringify(problem));
  });
  const error = await new ShepherdClient({ endpoint })
    .call("PATCH", "/x")
    .catch((caught: ProblemError) => caught);
  expect(error).toBeInstanceOf(ProblemError);
  expect((error as ProblemError).problem).toEqual(problem);
  expect(calls).toBe(1);
});

test("find answers undefined for what is not there, and throws for everything else", async () => {
  const endpoint = await serve((request, response) =>
    response.writeHead(request.url === "/gone" ? 404 : 500).end("{}"),
  );
  const client = new ShepherdClient({ endpoint });
  expect(await client.find("/gone")).toBeUndefined();
  await expect(client.find("/broken")).rejects.toThrow(/answered 500/);
});

test.each([
  ["a socket that is not there", () => `unix:${directory}/none.sock`, /there is no such socket/],
  ["a port where nothing listens", () => "http://127.0.0.1:9", /nothing listens there/],
  ["a relative socket path", () => "unix:here.sock", /must be absolute/],
  ["another scheme", () => "ftp://host", /an endpoint is unix:/],
  ["no scheme", () => "host:8420", /an endpoint is unix:/],
])("%s is named in the error", async (_, endpoint, words) => {
  const asked = async () => await new ShepherdClient({ endpoint: endpoint() }).get("/v1/status");
  const error = await asked().catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(UnreachableError);
  expect((error as UnreachableError).message).toMatch(words);
  expect((error as UnreachableError).endpoint).toBe(endpoint());
});

test("something that is no shepherd is named", async () => {
  const endpoint = await serve((_, response) => response.end("<html>"));
  await expect(new ShepherdClient({ endpoint }).get("/")).rejects.toThrow(/not JSON/);
});

test("an answer that breaks off is no answer", async () => {
  const endpoint = await serve((_, response) => {
    response.writeHead(200, { "content-length": 100 });
    response.write("{");
    setTimeout(() => response.destroy(), 10);
  });
  await expect(new ShepherdClient({ endpoint }).get("/")).rejects.toThrow(/broke off/);
});

test("TLS needs the authority's certificate", async () => {
  const own = makeCertificate(Date.now());
  const caFile = join(directory, "ca.pem");
  writeFileSync(caFile, own.certificatePem);
  const server = createTlsServer({ key: own.keyPem, cert: own.certificatePem }, (_, response) =>
    response.end('"hello"'),
  );
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `https://localhost:${(server.address() as AddressInfo).port}`;
  expect(await new ShepherdClient({ endpoint, caFile }).get("/")).toBe("hello");
  await expect(new ShepherdClient({ endpoint }).get("/")).rejects.toThrow(
    /self-signed certificate/,
  );
  expect(() => new ShepherdClient({ endpoint, caFile: "/none.pem" })).toThrow(/cannot be read/);
});

test("aborting ends a call with the reason, without another try", async () => {
  let calls = 0;
  const stop = new AbortController();
  const endpoint = await serve(() => {
    calls += 1;
    stop.abort(new Error("enough"));
  });
  const asked = new ShepherdClient({ endpoint }).get("/", { signal: stop.signal });
  await expect(asked).rejects.toThrow("enough");
  expect(calls).toBe(1);
});

test("waits for an operation and tells each change of progress once", async () => {
  const states = [10, 10, 60, 100].map((percent, i) => ({
    id: "o1",
    state: i === 3 ? "succeeded" : "running",
    progress: { percent, message: "copying" },
    ended_at_ms: i === 3 ? 5 : undefined,
  }));
  const endpoint = await serve((_, response) => response.end(JSON.stringify(states.shift())));
  const told: number[] = [];
  const ended = await new ShepherdClient({ endpoint }).waitForOperation("o1", {
    onProgress: ({ progress }) => told.push(progress.percent),
  });
  expect(ended.state).toBe("succeeded");
  expect(told).toEqual([10, 60, 100]);
});

test("an operation is followed over a restart of the shepherd", async () => {
  const socket = join(directory, "restarted.sock");
  const first = createServer((_, response) => {
    response.end('{"id":"o1","state":"running","progress":{"percent":10,"message":""}}', () => {
      first.close(); // removes the socket
      first.closeAllConnections();
      setTimeout(() => second.listen(socket), 700);
    });
  });
  const second = createServer((_, response) =>
    response.end(
      '{"id":"o1","state":"succeeded","progress":{"percent":100,"message":""},"ended_at_ms":1}',
    ),
  );
  servers.push(second);
  await new Promise<void>((resolve) => first.listen(socket, resolve));
  const ended = await new ShepherdClient({ endpoint: `unix:${socket}` }).waitForOperation("o1");
  expect(ended.state).toBe("succeeded");
});

test("reads events however they are cut", async () => {
  const endpoint = await serve((request, response) => {
    expect(request.url).toBe("/v1/events?since=7");
    const text =
      ': hello\n\nid: 8\ndata: {"seq":8,"kind":"ä"}\n\nid: 9\ndata: {"seq":9,\ndata: "kind":"b"}\n\n';
    for (const byte of Buffer.from(text)) response.write(Buffer.from([byte]));
    response.end();
  });
  const seen: unknown[] = [];
  for await (const event of new ShepherdClient({ endpoint }).events({ sinceSeq: 7 }))
    seen.push(event);
  expect(seen).toEqual([
    { seq: 8, kind: "ä" },
    { seq: 9, kind: "b" },
  ]);
});
