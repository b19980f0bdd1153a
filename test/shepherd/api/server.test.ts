/** The server itself: who may call, events that miss nothing, waiting, explaining, uploads, what is refused. */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  EventView,
  EvidenceReport,
  Explanation,
  HoldView,
  MachineView,
  Mutation,
  OperationView,
  RequestAnswer,
  TokenAnswer,
} from "@drover/shepherd/api/contract";
import { summaries } from "@drover/shepherd/api/summaries";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { startShepherd } from "@drover/shepherd/main";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { pino } from "pino";
import { minimalQcow2 } from "./qcow2-file.ts";
import {
  declareRing,
  machineBody,
  mutate,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

let running: Running;
let ring: Ring;
beforeAll(async () => {
  running = await run('listen: "127.0.0.1:0"');
  ring = await declareRing(running, 2);
});
afterAll(async () => {
  await running.end();
});

const resize = (params: object, query: Record<string, string | number> = { wait_ms: 10_000 }) =>
  running.client.call<RequestAnswer>("POST", "/v1/requests", {
    body: { method: "resize", environment: "ring", machine: "rank-0", params },
    query,
  });

test("the socket is for its owner alone", () => {
  expect(statSync(join(running.folder, "shepherd.sock")).mode & 0o777).toBe(0o600);
});

test("a second shepherd on the same state is refused and names the first", async () => {
  const configuration = readConfiguration(
    `world: simulated
state_dir: state
socket: other.sock
sites: [{ id: north, owner: n, hosts: [{ id: north-1, migration_address: 10.1.1.1, lend: { cpu_percent: 1, memory_mib: 1, disk_gib: 1 } }] }]
`,
    join(running.folder, "drover.yaml"),
  );
  await expect(startShepherd(configuration, pino({ level: "silent" }))).rejects.toMatchObject({
    code: "state.locked",
    details: { pid: String(process.pid) },
  });
});

test("over TCP: no token, a wrong one, and what each role may do", async () => {
  const endpoint = need(running.shepherd.listening);
  const as = (token?: string) => new ShepherdClient({ endpoint, token });
  const status = (token?: string) => as(token).get("/v1/status");
  await expect(status()).rejects.toMatchObject({ code: "access.token_missing", status: 401 });
  await expect(status("drover_x")).rejects.toMatchObject({ code: "access.token_unknown" });

  const { token: reader } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
    body: { name: "eyes", role: "reader" },
  });
  await expect(status(reader)).resolves.toMatchObject({ world: "simulated" });
  await expect(
    as(reader).call("PUT", "/v1/hold", { body: { scope: "everything", reason: "x" } }),
  ).rejects.toMatchObject({ code: "access.denied", status: 403 });

  const { token: stack } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
    body: { name: "alice", role: "stack" },
  });
  const mine = await as(stack).call<Mutation<{ owner: string }>>("PUT", "/v1/environments/mine", {
    body: { class: "batch", sites: ["north"] },
  });
  expect(mine.object?.owner).toBe("alice");
  await expect(
    as(stack).call("PUT", "/v1/environments/ring/networks/own", { body: { cidr: "10.9.0.0/24" } }),
  ).rejects.toMatchObject({ code: "access.not_owner" });
  await expect(
    as(stack).call("PUT", "/v1/images/spy", {
      body: { source: "/etc/shadow", sha256: "0".repeat(64) },
    }),
  ).rejects.toMatchObject({ code: "access.path" });
  await expect(
    as(stack).call("POST", "/v1/requests", {
      body: { method: "resize", environment: "ring", machine: "rank-0", params: { vcpus: 2 } },
    }),
  ).rejects.toMatchObject({ code: "access.not_owner" });
});

test("a reader of events that comes back misses nothing and sees nothing twice", async () => {
  const stop = new AbortController();
  const seen: EventView[] = [];
  const reading = (async () => {
    for await (const event of running.client.events({ sinceSeq: 0, signal: stop.signal })) {
      seen.push(event);
      if (seen.length === 3) break;
    }
  })();
  await reading;
  const { items } = await running.client.get<{ items: EventView[] }>("/v1/events", {
    query: { once: 1, since: 0, limit: 5 },
  });
  expect(seen.map(({ seq }) => seq)).toEqual(items.slice(0, 3).map(({ seq }) => seq));
  for await (const event of running.client.events({ sinceSeq: 3, signal: stop.signal })) {
    expect(event).toEqual(items[3]);
    break;
  }
});

test("an event stream tells of a change when it happens", async () => {
  const stop = new AbortController();
  const events = running.client.events({ signal: stop.signal });
  const first = events.next(); // connects; without a place to resume from only news come
  await new Promise((resolve) => setTimeout(resolve, 200));
  await running.client.call("PUT", "/v1/environments/news", {
    body: { class: "batch", sites: ["north"] },
  });
  const { value } = await first;
  expect(value).toMatchObject({ kind: "object.changed", data: { key: "news" } });
  stop.abort();
});

test("an operation is waited for by long poll", async () => {
  const answer = await resize({ cpu_percent: 30, lease_s: 600 }, {});
  const id = need(answer.operation);
  const ended = await running.client.get<OperationView>(`/v1/operations/${id}`, {
    query: { wait_ms: 10_000 },
  });
  expect(ended.state).toBe("succeeded");
  const { items } = await running.client.get<{ items: { state: string }[] }>(
    `/v1/operations/${id}/steps`,
  );
  expect(items.length).toBeGreaterThan(0);
  expect(new Set(items.map(({ state }) => state))).toEqual(new Set(["done"]));
});

test("explain tells who, what was known, the rules, the plan and what was measured", async () => {
  const reason = "gr\u00f6\u00dfer \u001b[2Jbitte";
  const answer = await resize({ cpu_percent: 40, lease_s: 600, reason });
  const story = await running.client.get<Explanation>(
    `/v1/decisions/${answer.decision}/explanation`,
  );
  for (const part of [
    "asked by  operator local-root (local-root)",
    "rank-0: 40 % of a core",
    "known   north/north-1 up",
    "consent operator: allow",
    "ok   envelope/",
    "CPU of rank-0 from",
    "predicted",
    "measured",
    "Operation",
  ]) {
    expect(story.text).toContain(part);
  }
  expect(story.text).not.toContain("\u001b");
  expect(story.consents.length).toBeGreaterThan(1);
  const byOperation = await running.client.get<Explanation>(
    `/v1/decisions/${need(answer.operation)}/explanation`,
  );
  expect(byOperation.request).toEqual(story.request);
});

test("a hold stops asks and names its reason; lifted, they pass again", async () => {
  await running.client.call("PUT", "/v1/hold", {
    body: { scope: "everything", reason: "maintenance", for_ms: 60_000 },
  });
  expect(await resize({ cpu_percent: 50 })).toMatchObject({
    verdict: "denied",
    code: "hold.active",
    message: expect.stringContaining("maintenance"),
  });
  await running.client.call("DELETE", "/v1/hold");
  const { items } = await running.client.get<{ items: HoldView[] }>("/v1/hold");
  expect(items).toEqual([]);
  expect(await resize({ cpu_percent: 50, lease_s: 600 })).toMatchObject({ verdict: "granted" });
});

test("an upload is verified, then an image can be made of it", async () => {
  // Larger than the limit of JSON bodies: uploads are streamed.
  const content = Buffer.concat([
    minimalQcow2({ virtualBytes: 2 ** 28 }),
    Buffer.alloc(3 * 2 ** 20, 7),
  ]);
  const sha256 = createHash("sha256").update(content).digest("hex");
  await expect(
    running.client.call("PUT", `/v1/blobs/${"0".repeat(64)}`, { body: content }),
  ).rejects.toMatchObject({ code: "blob.digest_mismatch" });
  await running.client.call("PUT", `/v1/blobs/${sha256}`, { body: content });
  const { object } = await mutate<{ virtual_bytes: number }>(running, "PUT", "/v1/images/pushed", {
    source: `blob:${sha256}`,
    sha256,
  });
  expect(object?.virtual_bytes).toBe(2 ** 28);
});

test.each<[string, string, string, object | undefined, string]>([
  ["an unknown path", "GET", "/v1/nothing", undefined, "request.not_found"],
  [
    "an unknown field",
    "PUT",
    "/v1/environments/x",
    { class: "a", sites: ["north"], zone: 1 },
    "request.invalid",
  ],
  ["a wrong type", "PUT", "/v1/environments/x", { class: "a", sites: "north" }, "request.invalid"],
  [
    "a name that is none",
    "PUT",
    "/v1/environments/Ring_1",
    { class: "a", sites: ["north"] },
    "request.invalid",
  ],
  [
    "a site that is none",
    "PUT",
    "/v1/environments/x",
    { class: "a", sites: ["west"] },
    "request.invalid",
  ],
  [
    "a network without bits",
    "PUT",
    "/v1/environments/ring/networks/n",
    { cidr: "10.42.0.1/24" },
    "network.cidr_invalid",
  ],
  [
    "a link to itself",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0", "rank-0"], rate_mbps: 1 },
    "request.invalid",
  ],
  [
    "a rate below what can be shaped",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0", "rank-1"], rate_mbps: 0 },
    "request.invalid",
  ],
  [
    "a rate in parts of a megabit",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0", "rank-1"], rate_mbps: 0.5 },
    "request.invalid",
  ],
  [
    "a link of a machine with nothing",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0"], rate_mbps: 1 },
    "request.invalid",
  ],
  [
    "a link of two machines with a network",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0", "rank-1"], network: "lan", rate_mbps: 1 },
    "request.invalid",
  ],
  [
    "a link with a network that is not there",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0"], network: "wan", rate_mbps: 1 },
    "object.unknown",
  ],
  [
    "a link to nobody",
    "PUT",
    "/v1/environments/ring/links",
    { machines: ["rank-0", "rank-8"], rate_mbps: 1 },
    "object.unknown",
  ],
  [
    "a forecast",
    "POST",
    "/v1/requests",
    { method: "forecast", environment: "ring", machine: "rank-0", params: {} },
    "request.invalid",
  ],
  [
    "a method that is none",
    "POST",
    "/v1/requests",
    { method: "explode", environment: "ring", params: {} },
    "request.invalid",
  ],
])("%s is a problem with its code", async (_, method, path, body, code) => {
  const call = running.client.call(method as "GET", path, body === undefined ? {} : { body });
  await expect(call).rejects.toMatchObject({
    code,
    problem: { type: `urn:drover:error:${code}`, hint: expect.stringMatching(/./) },
  });
});

test("a reader who presents an id claims nothing: a stack can still take it over", async () => {
  const { token } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
    body: { name: "passer-by", role: "reader" },
  });
  const put = () =>
    mutate<{ id: string }>(running, "PUT", "/v1/environments/shop", {
      class: "batch",
      sites: ["north"],
    });
  const { object } = await put();
  const reader = new ShepherdClient({ endpoint: need(running.shepherd.listening), token });
  await reader.get(`/v1/environments/${need(object).id}`);
  expect((await put()).object?.id).toBe(object?.id);
});

test("no JSON at all makes the server fail: it is refused with a code, or done", async () => {
  const routes = [
    ["PUT", "/v1/environments/fuzz"],
    ["PUT", "/v1/environments/ring/networks/fuzz"],
    ["PUT", "/v1/environments/ring/machines/fuzz"],
    ["PUT", "/v1/environments/ring/links"],
    ["PUT", "/v1/images/fuzz"],
    ["POST", "/v1/requests"],
    ["PUT", "/v1/hold"],
  ] as const;
  const words = fc.constantFrom(
    "class",
    "sites",
    "cidr",
    "machines",
    "rate_mbps",
    "image_id",
    "networks",
    "source",
    "sha256",
    "method",
    "environment",
    "params",
    "scope",
    "reason",
    "adaptation",
    "mode",
    "__proto__",
  );
  const body = fc.dictionary(words, fc.jsonValue({ maxDepth: 2 }));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...routes), body, async ([method, path], content) => {
      const code = await running.client.call(method, path, { body: content }).then(
        () => "done",
        (error: { code?: string; status?: number }) =>
          error.status !== undefined && error.status < 500
            ? error.code
            : `failed: ${String(error)}`,
      );
      expect(code).toMatch(/^(done|[a-z]+\.[a-z_]+)$/);
    }),
    { numRuns: 200 },
  );
  await running.client.call("DELETE", "/v1/hold");
});

test("a body that is too large or no JSON is refused before anything else", async () => {
  const send = (body: string) =>
    new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
      const call = request(
        {
          socketPath: join(running.folder, "shepherd.sock"),
          method: "PUT",
          path: "/v1/environments/x",
          headers: {
            "content-type": "application/json",
            "content-length": Buffer.byteLength(body),
          },
        },
        (answer) => {
          let text = "";
          answer.setEncoding("utf8").on("data", (chunk: string) => {
            text += chunk;
          });
          answer.on("end", () => resolve({ status: answer.statusCode, text }));
        },
      );
      call.on("error", reject);
      call.end(body);
    });
  expect(await send(`{"class":"${"x".repeat(70_000)}"}`)).toMatchObject({
    status: 413,
    text: expect.stringContaining("request.too_large"),
  });
  expect(await send("{")).toMatchObject({
    status: 400,
    text: expect.stringContaining("request.invalid"),
  });
});

test("OpenAPI lists every route with its body, metrics count calls and machines", async () => {
  const { paths } = await running.client.get<{
    paths: Record<string, Record<string, { summary?: string; requestBody?: object }>>;
  }>("/openapi.json");
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(
      ([method, { summary }]) =>
        `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ":$1")}: ${summary}`,
    ),
  );
  expect(documented.toSorted()).toEqual(
    Object.entries(summaries)
      .map(([route, summary]) => `${route}: ${summary}`)
      .toSorted(),
  );
  expect(paths["/v1/requests"]?.["post"]?.requestBody).toBeDefined();
  const text = await new Promise<string>((resolve, reject) => {
    request({ socketPath: join(running.folder, "shepherd.sock"), path: "/metrics" }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      answer.on("end", () => resolve(body));
    })
      .on("error", reject)
      .end();
  });
  expect(text).toContain('drover_machines{state="running"} 2');
  expect(text).toContain('drover_host_up{site="south",host="south-1"} 1');
  expect(text).toMatch(/drover_api_call_seconds_count\{.*route="\/v1\/requests"/);
});

test("the schemas of the policy contract are told, as they stand in the repository, and no other file", async () => {
  const { items } = await running.client.get<{ items: { name: string; path: string }[] }>(
    "/v1/policy-schemas",
  );
  expect(items.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["data.json", "input.json", "output.json"]),
  );
  for (const { name, path } of items)
    expect(await running.client.get(path)).toEqual(
      JSON.parse(readFileSync(join(libraryFolder, "schemas", name), "utf8")),
    );
  for (const name of ["../main/main.rego", "input", encodeURIComponent("../../package.json")])
    await expect(running.client.get(`/v1/policy-schemas/${name}`)).rejects.toMatchObject({
      status: 404,
    });
});

test("the evidence of all this is whole", async () => {
  const report = await running.client.get<EvidenceReport>("/v1/evidence/verify");
  expect(report).toMatchObject({ ok: true, broken_at: null });
  expect(report.entries).toBeGreaterThan(20);
});

test("ten creations for the last room: as many as fit, the others are told why", async () => {
  const body = machineBody(ring, {
    memory_mib: 1024,
    site: "south",
    adaptation: { mode: "auto", sites: ["south"] },
  });
  const outcomes = await Promise.all(
    Array.from({ length: 10 }, (_, index) =>
      mutate<MachineView>(running, "PUT", `/v1/environments/ring/machines/big-${index}`, body).then(
        () => "runs",
        (error: { code?: string }) => error.code ?? "failed",
      ),
    ),
  );
  const count = (what: string) => outcomes.filter((outcome) => outcome === what).length;
  expect(count("runs")).toBeLessThanOrEqual(4); // south lends 4096 MiB
  expect(count("runs")).toBeGreaterThanOrEqual(1);
  expect(count("failed")).toBe(0);
  expect(running.world.violations).toEqual([]);
});
