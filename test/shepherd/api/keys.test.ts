/**
 * Idempotency keys on every call that changes something, against a whole shepherd: each route of /openapi.json is called
 * twice with one key and answers the same, without being done twice; again over a restart; and after a death between the
 * change and its answer. A route that nobody plays here fails the test.
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as httpRequest, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { RecallView } from "@drover/shepherd/api/contract-people";
import { runCommand } from "@drover/shepherd/cli/main";
import { signGlass } from "@drover/shepherd/policy/break-glass";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import Database from "better-sqlite3";
import {
  declareRing,
  imageBody,
  machineBody,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

jest.setTimeout(180_000);

/** Change nothing, or carry bytes: the reason stands beside each. */
const keyless = [
  "PUT /v1/blobs/:sha256", // a file is named by its own digest
  "POST /v1/console", // bytes of a connection
  "POST /v1/machines/:id/connect", // bytes of a connection
  "POST /v1/guest", // a request of the guest protocol has its own id
  "POST /v1/plan-checks", // asks only
  "POST /v1/constraint-checks", // asks only
  "POST /v1/what-if", // asks only
  "POST /v1/machines/:id/why-not", // asks only
];
/** Played to their refusal: what they need is built in tests of their own rooms. */
const refusedHere = [
  "POST /v1/evidence/restores", // there was no restore
  "POST /v1/policies/:owner/trials", // no bundle
  "PUT /v1/policies/:owner/shadow", // no bundle
];

interface Call {
  readonly route: string;
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: string;
  readonly body?: unknown;
  readonly as?: string;
  readonly key: string;
}
interface Told {
  readonly status: number;
  readonly text: string;
  readonly wasKept: boolean;
}
// What calls answer is read loosely: the same twice is what counts here.
interface Answer {
  readonly object?: { readonly id: string } | null;
  readonly operation?: { readonly id: string } | string | null;
  readonly id?: string;
  readonly request?: string;
  readonly token?: string;
  readonly code?: string;
  readonly items?: readonly { readonly id: string; readonly request?: string }[];
  readonly plan?: { readonly digest: string };
  readonly details?: { readonly first: number; readonly last: number };
}

const folder = mkdtempSync(join(tmpdir(), "drover-keys-"));
const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const publicFile = join(folder, "public.pem");
writeFileSync(publicFile, publicKey.export({ type: "spki", format: "pem" }));
/** The shipped policy, but that much CPU wants a look afterwards. */
const policy = join(folder, "operator");
mkdirSync(policy);
const aftercare = `aftercare:
      much-cpu:
        level: deny
        params:
          { vcpus: 99, cpu_percent: 54, memory_mib: 99999, moves: false, notify: [sue], review: { within_ms: 3600000, otherwise: release } }
    `;
const shipped = readFileSync(
  join(import.meta.dirname, "../../../policies/data/operator/data.yaml"),
  "utf8",
);
const publish = (data: string) => writeFileSync(join(policy, "data.yaml"), data);
const withAftercare = shipped.replace("growth_factor:", `${aftercare}growth_factor:`);
publish(withAftercare);

let running: Running;
let ring: Ring;
const tokens: Record<string, string> = {};
const played: (Call & { readonly told: Told })[] = [];
const refused: string[] = [];
let keys = 0;

beforeAll(async () => {
  running = await run(`break_glass: { public_key_files: [${JSON.stringify(publicFile)}] }
policies: { operator: ${JSON.stringify(policy)} }`);
  ring = await declareRing(running, 2);
}, 120_000);
afterAll(async () => {
  await running.end();
  rmSync(folder, { recursive: true });
});

async function send({ route, params = {}, query = "", body, as, key }: Call): Promise<Told> {
  const [method = "", url = ""] = route.split(" ");
  const path = url.replaceAll(/:(\w+)/g, (_, name: string) =>
    encodeURIComponent(need(params[name])),
  );
  return await new Promise((resolve, reject) => {
    const call = httpRequest(
      {
        socketPath: running.endpoint.slice("unix:".length),
        method,
        path: `${path}${query}`,
        headers: {
          "idempotency-key": key,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(as === undefined ? {} : { authorization: `Bearer ${need(tokens[as])}` }),
        },
      },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        answer.on("end", () =>
          resolve({
            status: answer.statusCode ?? 0,
            text,
            wasKept: answer.headers["idempotency-replayed"] === "true",
          }),
        );
      },
    );
    call.on("error", reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

type Asked = Omit<Call, "key" | "route">;
/** Twice with one key; the answer that both gave. */
async function twice(route: string, asked: Asked = {}): Promise<Answer> {
  const call = { ...asked, route, key: `key ${++keys}` };
  const first = await send(call);
  if (first.status >= 300) throw new Error(`${route}: ${first.status} ${first.text}`);
  const answer = (first.text === "" ? {} : JSON.parse(first.text)) as Answer;
  const operation = typeof answer.operation === "string" ? answer.operation : answer.operation?.id;
  if (operation !== undefined) await running.client.waitForOperation(operation);
  const again = await send(call);
  if (route === "POST /v1/requests") {
    expect([again.status, JSON.parse(again.text)]).toMatchObject([
      200,
      { request: answer.request },
    ]);
  } else {
    expect({ route, ...again }).toEqual({ route, ...first, wasKept: true });
    expect(first.wasKept).toBe(false);
  }
  played.push({ ...call, told: first });
  return answer;
}

/** Refused, and looked at anew when it comes again. */
async function no(route: string, code: string, asked: Asked = {}): Promise<void> {
  const call = { ...asked, route, key: `key ${++keys}` };
  for (const _ of [1, 2]) {
    const told = await send(call);
    expect({ route, code: (JSON.parse(told.text) as Answer).code }).toEqual({ route, code });
    expect(told.wasKept).toBe(false);
  }
  refused.push(route);
}

test("every call that changes something answers the same to the same key", async () => {
  const people = [
    { name: "otto", role: "operator" },
    { name: "ada", role: "approver" },
    { name: "sue", role: "security" },
    { name: "tom", role: "security" },
  ];
  for (const body of people)
    tokens[body.name] = need((await twice("POST /v1/tokens", { body })).token);

  // What is declared.
  const inRing = (name: string) => ({ environment: "ring", name });
  const own = async (route: string, asked: Asked) => need((await twice(route, asked)).object).id;
  const body = { class: "batch", sites: ["north", "south"] };
  const den = { id: await own("PUT /v1/environments/:name", { params: { name: "den" }, body }) };
  await twice("PATCH /v1/environments/:id", { params: den, body: { class: "interactive" } });
  const lan = {
    id: await own("PUT /v1/environments/:environment/networks/:name", {
      params: { environment: "den", name: "side" },
      body: { cidr: "10.43.0.0/24" },
    }),
  };
  await twice("PATCH /v1/networks/:id", { params: lan, body: { mtu: 1_400 } });
  await twice("DELETE /v1/networks/:id", { params: lan });
  await twice("DELETE /v1/environments/:id", { params: den });
  const image = {
    id: await own("PUT /v1/images/:name", { params: { name: "spare" }, body: imageBody(running) }),
  };
  await twice("DELETE /v1/images/:id", { params: image });
  const volume = {
    id: await own("PUT /v1/environments/:environment/volumes/:name", {
      params: inRing("data"),
      body: { size_gib: 1 },
    }),
  };
  await twice("PATCH /v1/volumes/:id", { params: volume, body: { size_gib: 2 } });
  await twice("DELETE /v1/volumes/:id", { params: volume });
  const constraint = {
    id: await own("PUT /v1/environments/:environment/constraints/:name", {
      params: inRing("small"),
      body: { rule: "envelope", params: {} },
    }),
  };
  await twice("PATCH /v1/constraints/:id", { params: constraint, body: { params: {} } });
  await twice("DELETE /v1/constraints/:id", { params: constraint });
  const link = { id: need(ring.links[0]).id };
  await running.client.get(`/v1/links/${link.id}`);
  await twice("PATCH /v1/links/:id", { params: link, body: { rate_mbps: 200 } });
  await twice("DELETE /v1/links/:id", { params: link });
  await twice("PUT /v1/environments/:environment/links", {
    params: { environment: "ring" },
    body: { machines: ["rank-1", "rank-0"], rate_mbps: 100 },
  });
  const late = {
    id: await own("PUT /v1/environments/:environment/machines/:name", {
      params: inRing("late"),
      body: machineBody(ring),
    }),
  };
  await running.client.get(`/v1/machines/${late.id}`);
  await twice("PATCH /v1/machines/:id", { params: late, body: { cpu_percent: 30 } });
  await twice("POST /v1/machines/:id/console-passes", { params: late });
  const pass = need(
    (await twice("POST /v1/machines/:id/guest-passes", { params: late, body: {} })).id,
  );
  await twice("POST /v1/passes/:id/renew", { params: { id: pass } });
  await twice("DELETE /v1/passes/:id", { params: { id: pass } });
  await twice("DELETE /v1/machines/:id", { params: late });
  const { speaker: _, group: __, ...template } = machineBody(ring);
  const crowd = {
    id: await own("PUT /v1/environments/:environment/groups/:name", {
      params: inRing("crowd"),
      body: { template, machine_count: 1 },
    }),
  };
  await running.client.get(`/v1/groups/${crowd.id}`);
  await twice("PATCH /v1/groups/:id", { params: crowd, body: { machine_count: 1 } });
  await twice("DELETE /v1/groups/:id", { params: crowd });

  // What is asked, and what people say to it.
  const ask = (cpu: number) => ({
    method: "resize",
    environment: "ring",
    machine: "rank-1",
    params: { cpu_percent: cpu },
  });
  const beyond = need((await twice("POST /v1/requests", { body: ask(70) })).request);
  const plan = need((await twice("POST /v1/requests/:id/plan", { params: { id: beyond } })).plan);
  const signed = signGlass(
    {
      purpose: "drover-break-glass-1",
      plan_digest: plan.digest,
      by: "ceo",
      reason: "fire",
      not_before_ms: Date.now() - 60_000,
      expires_at_ms: Date.now() + 600_000,
    },
    privateKey,
  );
  await twice("POST /v1/requests/:id/break-glass", {
    params: { id: beyond },
    body: signed,
    as: "otto",
  });
  await twice("POST /v1/requests", { body: { ...ask(0), method: "release", params: {} } });
  await twice("POST /v1/requests", { body: ask(55), as: "otto" });
  const rank = { id: need(ring.machines[0]).id };
  await running.client.get(`/v1/machines/${rank.id}`);
  const { adaptation } = machineBody(ring);
  await twice("PATCH /v1/machines/:id", {
    params: rank,
    body: { adaptation: { ...need(adaptation), mode: "approve" } },
  });
  const waiting = async (cpu: number) => {
    const asked = await running.client.call<Answer>("POST", "/v1/requests", {
      body: { ...ask(cpu), machine: "rank-0" },
    });
    return { id: need(asked.request) };
  };
  const reason = "as agreed";
  await twice("POST /v1/requests/:id/approve", {
    params: await waiting(31),
    body: { reason },
    as: "ada",
  });
  await twice("POST /v1/requests/:id/reject", {
    params: await waiting(32),
    body: { reason },
    as: "ada",
  });
  await twice("POST /v1/requests/:id/withdraw", { params: await waiting(33), body: { reason } });
  const { items: owed } = await running.client.get<Answer>("/v1/obligations");
  await twice("POST /v1/obligations/:id/review", {
    params: { id: need(owed?.[0]).id },
    body: { reason },
    as: "ada",
  });
  const deadline = Date.now() + 3_600_000;
  const recall = await twice("POST /v1/recalls", {
    body: { site: "south", environment: "ring", reason, deadline_ms: deadline },
  });
  await twice("DELETE /v1/recalls/:id", { params: { id: need(recall.id) } });
  const exemption = await twice("POST /v1/exemptions", {
    body: {
      owner: "operator",
      rule: "envelope",
      instance: "stack-bounds",
      environments: ["ring"],
      expires_at_ms: deadline,
      ticket: "OPS-17",
      reason,
    },
    as: "sue",
  });
  const exempt = { params: { id: need(exemption.id) } };
  await twice("POST /v1/exemptions/:id/approve", { ...exempt, as: "tom" });
  await twice("DELETE /v1/exemptions/:id", { ...exempt, as: "sue" });

  // What is said about the fleet.
  await twice("PUT /v1/hold", { body: { scope: { site_id: "south" }, reason } });
  await twice("DELETE /v1/hold", { query: "?site=south" });
  await twice("POST /v1/hosts/:id/drain", { params: { id: "south-1" }, body: { reason } });
  await twice("DELETE /v1/hosts/:id/drain", { params: { id: "south-1" } });
  running.world.setReachable("south-1", false);
  await twice("POST /v1/hosts/:id/confirm-dead", {
    params: { id: "south-1" },
    body: { reason, fenced_by: "power off at the rack" },
  });
  running.world.setReachable("south-1", true);
  await twice("POST /v1/hosts/:id/return", { params: { id: "south-1" } });
  await twice("POST /v1/janitor", { body: { remove: true } });
  const { items: operations } = await running.client.get<Answer>("/v1/operations");
  const ended = { params: { id: need(operations?.[0]).id } };
  await twice("POST /v1/operations/:id/cancel", ended);
  await twice("POST /v1/operations/:id/retry", ended);
  await twice("POST /v1/tunnels/rotate");
  const operator = { params: { owner: "operator" } };
  publish(withAftercare.replace("max_machines: 16", "max_machines: 15"));
  await twice("POST /v1/policies/:owner/activate", { ...operator, body: {} });
  await twice("POST /v1/policies/:owner/rollback", { ...operator, body: { reason } });
  await no("POST /v1/policies/:owner/trials", "request.invalid", operator);
  await no("PUT /v1/policies/:owner/shadow", "request.invalid", operator);
  await twice("DELETE /v1/policies/:owner/shadow", operator);
  await no("POST /v1/evidence/restores", "evidence.nothing_to_accept", {
    body: { reason },
    as: "sue",
  });
  const foreign = "0b0e6a52-0000-4000-8000-00000000f001";
  running.world.startForeign("north-2", {
    id: foreign,
    name: "old-db",
    vcpus: 1,
    memoryMib: 64,
    cpuPercent: 10,
  });
  await twice("POST /v1/foreign-machines/:id/import", {
    params: { id: foreign },
    body: { environment: "ring", name: "old-db" },
  });
  const east = { params: { name: "east", site: "east", id: "east" } };
  await twice("PUT /v1/site-registrations/:name", { ...east, body: { owner: "erin", policy } });
  const lend = { cpu_percent: 100, memory_mib: 512, disk_gib: 4 };
  await twice("PUT /v1/sites/:site/hosts/:name", {
    params: { site: "east", name: "east-1" },
    body: { migration_address: "192.0.2.21", lend },
  });
  await twice("PATCH /v1/host-registrations/:id", {
    params: { id: "east-1" },
    body: { lend: { ...lend, cpu_percent: 200 } },
  });
  await twice("DELETE /v1/host-registrations/:id", { params: { id: "east-1" } });
  await twice("DELETE /v1/site-registrations/:id", east);

  // None is forgotten: what the shepherd itself says it has.
  const { paths } = await running.client.get<{
    paths: Readonly<Record<string, Readonly<Record<string, { parameters?: { name: string }[] }>>>>;
  }>("/openapi.json");
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => !["get", "head"].includes(method))
      .map(([method, { parameters = [] }]) => ({
        route: `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ":$1")}`,
        takesKey: parameters.some(({ name }) => name === "idempotency-key"),
      })),
  );
  const named = (takesKey: boolean) =>
    routes.filter((one) => one.takesKey === takesKey).map(({ route }) => route);
  expect(named(false).toSorted()).toEqual(keyless.toSorted());
  expect(refused.toSorted()).toEqual(refusedHere.toSorted());
  expect([...new Set([...played.map(({ route }) => route), ...refused])].toSorted()).toEqual(
    named(true).toSorted(),
  );
  process.stderr.write(
    `${new Set(played.map(({ route }) => route)).size} routes answer the same to the same key, ${refused.length} refuse the same\n`,
  );
}, 180_000);

const about = { site: "south", environment: "ring", reason: "a new tenant" };
const eventsSince = async (seq: number) =>
  (
    await running.client.get<{
      items: readonly { seq: number; kind: string; data: { change?: string } }[];
    }>(`/v1/events?once=1&limit=9999&since=${seq}`)
  ).items;
/** How often a site's consent was recalled. */
const recalls = async () =>
  (await eventsSince(0)).filter(
    ({ kind, data }) => kind === "recall.changed" && data.change !== "lifted",
  ).length;
const lastEvent = async () => (await eventsSince(0)).at(-1)?.seq ?? 0;

test("the same key with other words is refused, and nothing is done", async () => {
  const hold = (reason: string): Call => ({
    route: "PUT /v1/hold",
    body: { scope: { site_id: "south" }, reason },
    key: "reused",
  });
  expect((await send(hold("first"))).status).toBe(200);
  const other = await send(hold("second"));
  expect([other.status, (JSON.parse(other.text) as Answer).code]).toEqual([
    409,
    "request.key_reused",
  ]);
  expect((await send(hold("first"))).wasKept).toBe(true);
  // The key is its caller's, on that path: anybody else's is another.
  expect((await send({ ...hold("third"), as: "otto" })).status).toBe(200);
  expect(
    (await send({ route: "DELETE /v1/hold", query: "?site=south", key: "reused" })).status,
  ).toBe(200);
  for (const key of ["", "k".repeat(256)]) {
    expect((await send({ ...hold("first"), key })).status).toBe(400);
  }
});

test("two at once are one", async () => {
  const before = await recalls();
  const call: Call = {
    route: "POST /v1/recalls",
    body: { ...about, deadline_ms: Date.now() + 3_600_000 },
    key: "at once",
  };
  const told = await Promise.all(Array.from({ length: 5 }, () => send(call)));
  expect(new Set(told.map(({ text }) => text)).size).toBe(1);
  expect(told.filter(({ wasKept }) => !wasKept).length).toBe(1);
  expect(await recalls()).toBe(before + 1);
});

test("a client whose answer is lost on the way asks again by itself, and it was done once", async () => {
  const proxy = await forgetful();
  try {
    const before = await recalls();
    const client = new ShepherdClient({ endpoint: proxy.endpoint });
    const body = { ...about, reason: "lost on the way", deadline_ms: Date.now() + 3_600_000 };
    const recall = await client.call<RecallView>("POST", "/v1/recalls", { body });
    expect(recall.reason).toBe("lost on the way");
    expect(await recalls()).toBe(before + 1);
    // The secret of a new token, too: by the command, as people make one.
    let said = "";
    const make = [
      "token",
      "create",
      "--name",
      "ci",
      "--role",
      "reader",
      "--endpoint",
      proxy.endpoint,
      "--json",
    ];
    const code = await runCommand(make, {
      out: (text) => {
        said += text;
      },
      err: () => undefined,
    });
    expect([code, proxy.lost()]).toEqual([0, 2]);
    const { token } = JSON.parse(said) as { token: string };
    const named = new ShepherdClient({ endpoint: running.endpoint, token });
    expect(await named.get("/v1/sites")).toMatchObject({ items: expect.anything() });
  } finally {
    await proxy.close();
  }
});

test("a shepherd that is started again answers as its predecessor did", async () => {
  running = await running.restart();
  const seq = await lastEvent();
  for (const { told, ...call } of played) {
    const again = await send(call);
    const { route } = call;
    if (route === "POST /v1/requests") continue; // the gate's: told as it stands now
    if (route.endsWith("-passes")) {
      // Passes end with their shepherd: it is another one.
      expect({
        route,
        isKept: again.wasKept,
        done: again.status === 200 || again.status === 404,
      }).toEqual({
        route,
        isKept: false,
        done: true,
      });
    } else expect([route, again.status, again.text]).toEqual([route, told.status, told.text]);
  }
  // None of it was done a second time: a looker's passes aside, the journal has not grown.
  const since = await eventsSince(seq);
  expect(
    since.filter(({ kind }) => /^(hold|recall|exemption|approval|host\.dr|object)/.test(kind)),
  ).toEqual([]);
});

test("a shepherd that died before the answer was written does no POST twice, and says what it did", async () => {
  running = await running.restart(async () => {
    // What a kill between the two commits leaves: the change with its key, no answer.
    const journal = new Database(join(running.folder, "state", "journal.sqlite"));
    journal.exec("delete from calls where first_event is null");
    journal.exec("update calls set status = null, answer = null");
    journal.close();
  });
  const lost: string[] = [];
  const seq = await lastEvent();
  for (const call of played.filter(({ route }) => route.startsWith("POST"))) {
    const { status, text } = await send(call);
    const answer = JSON.parse(text) as Answer;
    if (answer.code !== "request.answer_lost") continue;
    lost.push(call.route);
    expect([status, need(answer.details).first]).toEqual([409, expect.any(Number)]);
    expect(need(answer.details).first).toBeLessThanOrEqual(seq);
  }
  expect(lost).toEqual(
    expect.arrayContaining([
      "POST /v1/recalls",
      "POST /v1/exemptions",
      "POST /v1/exemptions/:id/approve",
      "POST /v1/requests/:id/approve",
      "POST /v1/requests/:id/reject",
      "POST /v1/requests/:id/withdraw",
      "POST /v1/requests/:id/break-glass",
      "POST /v1/obligations/:id/review",
      "POST /v1/hosts/:id/drain",
      "POST /v1/hosts/:id/confirm-dead",
      "POST /v1/hosts/:id/return",
      "POST /v1/foreign-machines/:id/import",
    ]),
  );
  // A token is told again: its secret is made of the key, and of what only the shepherd has.
  for (const { told, ...call } of played.filter(({ route }) => route === "POST /v1/tokens")) {
    const again = await send(call);
    expect([again.status, again.text]).toEqual([told.status, told.text]);
  }
  // What says how it is to be is simply said again.
  const hold = need(played.find(({ route }) => route === "PUT /v1/hold"));
  expect((await send(hold)).status).toBe(200);
});

/** Hands every call on, and breaks the line instead of each first answer. */
async function forgetful() {
  const known = new Set<string>();
  let lost = 0;
  const server: Server = createServer((asked, answer) => {
    const { method, url: path, headers } = asked;
    const socketPath = running.endpoint.slice("unix:".length);
    const onward = httpRequest({ socketPath, method, path, headers }, (told) => {
      const key = String(headers["idempotency-key"]);
      if (method !== "GET" && !known.has(key)) {
        known.add(key);
        lost += 1;
        told.resume().on("end", () => asked.socket.destroy());
      } else {
        answer.writeHead(told.statusCode ?? 500, told.headers);
        told.pipe(answer);
      }
    });
    asked.pipe(onward);
  });
  const socket = join(folder, "forgetful.sock");
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    endpoint: `unix:${socket}`,
    lost: () => lost,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
