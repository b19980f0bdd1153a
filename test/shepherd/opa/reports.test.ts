/** What a collector that knows OPA receives: decision logs and status, nothing lost while it was away, masked. */
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Decision } from "@drover/shepherd/model/request";
import type { PolicyState } from "@drover/shepherd/opa/policies";
import { createReports } from "@drover/shepherd/opa/reports";
import type { PolicyValue } from "@drover/shepherd/ports/policy-engine";
import type { Store } from "@drover/shepherd/ports/store";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import pino from "pino";
import { type Static, Type } from "typebox";
import { Check, Errors } from "typebox/value";

interface Told {
  readonly path: string;
  readonly body: unknown;
}
let folder: string;
let store: Store;
let lastId = 0;
const cleanups: (() => Promise<unknown>)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-reports-"));
  store = openSqliteStore(":memory:");
});
afterEach(async () => {
  for (const clean of cleanups.splice(0).toReversed()) await clean();
  await store.close();
  rmSync(folder, { recursive: true });
});

const state: PolicyState = {
  owner: "operator",
  source: "/etc/drover/policies",
  activation: "folder",
  active: {
    n: 1,
    revision: "r7",
    policyDigest: "p",
    dataDigest: "d",
    activatedAtMs: 1_000,
    by: "sue",
  },
  self: undefined,
  data: undefined,
  generations: [],
  isStale: false,
  staged: undefined,
  problem: { code: "policy.flips", message: "too many", hint: "", details: {} },
  lastRequestMs: 2_000,
  lastDownloadMs: undefined,
  shadow: undefined,
};

function open(target: { file?: string; url?: string }, mask: PolicyValue): () => Promise<void> {
  const reports = createReports({
    target,
    cursorFile: join(folder, "state/reported"),
    labels: { app: "drover", id: "one" },
    store,
    states: async () => [
      { ...state, generations: state.active === undefined ? [] : [state.active] },
    ],
    mask: { query: async () => mask },
    clock: createScaledClock({ scale: 50, originMs: 0 }),
    log: pino({ level: "silent" }),
  });
  reports.start();
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (!stopped) await reports.stop();
    stopped = true;
  };
  cleanups.push(stop);
  return stop;
}

async function decided(): Promise<string> {
  const id = `d${(lastId += 1)}`;
  const decision: Decision = {
    id,
    requestId: `r-${id}`,
    environmentId: "ring",
    point: "plan",
    effect: "allow",
    code: "granted",
    message: "",
    findings: [],
    obligations: [],
    limits: {},
    consents: [
      { owner: "operator", effect: "allow", policyDigest: "p", dataDigest: "d", durationMs: 1.5 },
    ],
    input: { request: { reason: "secret" }, now_ms: 5 },
    decidedAtMs: 5,
  };
  await store.transaction(async (journal) => {
    await journal.decisions.add(decision);
    await journal.events.append({ kind: "decision.made", atMs: 5, data: { decisionId: id } });
  });
  return id;
}

/** An HTTP collector; while `status.away` it answers 503. */
async function collector(): Promise<{ url: string; told: Told[]; health: { away: boolean } }> {
  const told: Told[] = [];
  const health = { away: false };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (health.away) return response.writeHead(503).end();
      const raw = Buffer.concat(chunks);
      const plain = request.headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw;
      told.push({ path: request.url ?? "", body: JSON.parse(plain.toString()) });
      return response.writeHead(204).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(() => new Promise((resolve) => server.close(resolve)));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/opa`, told, health };
}

const idsOf = (told: readonly Told[]): string[] =>
  told
    .filter(({ path }) => path === "/opa/logs")
    .flatMap(({ body }) => (body as { decision_id: string }[]).map(({ decision_id: id }) => id));

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const remove: PolicyValue = { kind: "value", value: ["/input/request/reason", "/labels/id"] };

test("decisions and the state of bundles arrive in OPA's shapes, masked", async () => {
  const { url, told } = await collector();
  const id = await decided();
  open({ url }, remove);
  await until(() => told.length >= 2);
  expect(told.find(({ path }) => path === "/opa/logs")?.body).toEqual([
    {
      labels: { app: "drover", id: "one" },
      decision_id: id,
      bundles: { operator: { revision: "r7" } },
      path: "drover/main/plan_check",
      input: { request: {}, now_ms: 5 },
      result: { effect: "allow", code: "granted", findings: [], obligations: [], limits: {} },
      requested_by: "",
      timestamp: "1970-01-01T00:00:00.005Z",
      metrics: { timer_rego_query_eval_ns: 1_500_000 },
      custom: {
        request_id: `r-${id}`,
        consents: [{ owner: "operator", effect: "allow", policy_digest: "p", data_digest: "d" }],
      },
      erased: ["/input/request/reason"],
    },
  ]);
  expect(told.find(({ path }) => path === "/opa/status")?.body).toMatchObject({
    labels: { app: "drover", id: "one" },
    bundles: {
      operator: {
        name: "operator",
        type: "snapshot",
        active_revision: "r7",
        last_successful_activation: "1970-01-01T00:00:01.000Z",
        code: "policy.flips",
        message: "too many",
      },
    },
  });
});

/**
 * The types that OPA 1.20.2 itself reads and writes these events with (v1/plugins/logs EventV1, v1/plugins/status
 * UpdateRequestV1, v1/plugins/bundle Status): a collector written in Go refuses an event whose field has another type.
 */
const strings = Type.Record(Type.String(), Type.String());
const anything = Type.Record(Type.String(), Type.Unknown());
const time = Type.String({ pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$" });
const exactly = { additionalProperties: false };
const OpaDecision = Type.Object(
  {
    labels: strings,
    decision_id: Type.String(),
    bundles: Type.Optional(
      Type.Record(Type.String(), Type.Object({ revision: Type.Optional(Type.String()) }, exactly)),
    ),
    path: Type.Optional(Type.String()),
    input: Type.Optional(Type.Unknown()),
    result: Type.Optional(Type.Unknown()),
    erased: Type.Optional(Type.Array(Type.String())),
    masked: Type.Optional(Type.Array(Type.String())),
    requested_by: Type.Optional(Type.String()),
    timestamp: time,
    metrics: Type.Optional(anything),
    req_id: Type.Optional(Type.Integer({ minimum: 0 })),
    custom: Type.Optional(anything),
  },
  exactly,
);
const OpaBundleStatus = Type.Object(
  {
    name: Type.String(),
    active_revision: Type.Optional(Type.String()),
    last_successful_activation: Type.Optional(time),
    type: Type.Optional(Type.String()),
    size: Type.Optional(Type.Integer()),
    last_successful_download: Type.Optional(time),
    last_successful_request: Type.Optional(time),
    last_request: Type.Optional(time),
    code: Type.Optional(Type.String()),
    message: Type.Optional(Type.String()),
  },
  exactly,
);
const OpaStatus = Type.Object({
  labels: strings,
  bundles: Type.Record(Type.String(), OpaBundleStatus),
});

test.each<[string, PolicyValue]>([
  ["with what the mask takes out", remove],
  ["with a mask that gives no answer", { kind: "undecided", code: "policy.timeout", problem: "" }],
  [
    "with what the mask replaces",
    { kind: "value", value: [{ op: "upsert", path: "/input/request/reason", value: "***" }] },
  ],
])("every field has the type that OPA's own event types give it, %s", async (_, mask) => {
  const { url, told } = await collector();
  await decided();
  open({ url }, mask);
  await until(() => told.length >= 2);
  const bodies = (path: string): unknown[] =>
    told.filter((one) => one.path === path).flatMap(({ body }) => body);
  const wrong = [
    ...bodies("/opa/logs").flatMap((body) => Errors(OpaDecision, body)),
    ...bodies("/opa/status").flatMap((body) => Errors(OpaStatus, body)),
  ];
  expect(wrong).toEqual([]);
  expect(bodies("/opa/logs").length).toBeGreaterThan(0);
  const [event] = bodies("/opa/logs") as [Static<typeof OpaDecision>];
  // and the check can fail: a request's id is text, which OPA's number does not take
  expect(Check(OpaDecision, { ...event, req_id: "r1" })).toBe(false);
});

test("a collector that was away gets everything, and a restart goes on where it was", async () => {
  const { url, told, health } = await collector();
  health.away = true;
  const first = await decided();
  const stop = open({ url }, remove);
  const second = await decided();
  health.away = false;
  await until(() => idsOf(told).length >= 2);
  expect(idsOf(told)).toEqual([first, second]);
  // told twice is allowed, so the restart must come after what was told is remembered
  const cursor = join(folder, "state/reported");
  await until(() => existsSync(cursor) && readFileSync(cursor, "utf8") === "2");
  await stop();
  const third = await decided();
  open({ url }, remove);
  await until(() => idsOf(told).includes(third));
  expect(idsOf(told)).toEqual([first, second, third]);
});

test.each<[string, PolicyValue, object]>([
  [
    "a mask that gives no answer hides everything",
    { kind: "undecided", code: "policy.timeout", problem: "" },
    { input: null, result: null, erased: ["/input", "/result"] },
  ],
  [
    "no mask hides nothing",
    { kind: "undecided", code: "policy.absent", problem: "" },
    { input: { request: { reason: "secret" }, now_ms: 5 } },
  ],
  [
    "a mask may replace",
    { kind: "value", value: [{ op: "upsert", path: "/input/request/reason", value: "***" }] },
    { input: { request: { reason: "***" }, now_ms: 5 }, masked: ["/input/request/reason"] },
  ],
])("%s", async (_, mask, expected) => {
  const file = join(folder, "log.jsonl");
  await decided();
  open({ file }, mask);
  const linesOf = () =>
    existsSync(file) ? readFileSync(file, "utf8").split("\n").filter(Boolean) : [];
  await until(() => linesOf().length >= 2);
  const lines = linesOf().map((line) => JSON.parse(line) as object);
  expect(lines.find((line) => "decision_id" in line)).toMatchObject(expected);
});
