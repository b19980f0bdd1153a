/**
 * Tells collectors in OPA's own event shapes what was decided and which bundles are in force, so that what already reads
 * OPA's decision logs and status reads drover's too. A consumer of the journal: nothing is lost while a collector is
 * away, and something may be told twice. What the operator's mask names is taken out first.
 */
import { appendFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Logger } from "pino";
import { errorCode } from "#model/error-code";
import type { Event } from "#model/event";
import { Fault } from "#model/fault";
import type { Decision, Request } from "#model/request";
import type { Ms } from "#model/units";
import { revisionOf } from "#opa/archive";
import type { PolicyState } from "#opa/policies";
import type { Clock } from "#ports/clock";
import type { PolicyEngine } from "#ports/policy-engine";
import type { Store } from "#ports/store";

const pack = promisify(gzip);

/** Where to; both may be named. */
export interface ReportTarget {
  /** Absolute file: a line of JSON an event. */
  readonly file?: string | undefined;
  /** `/logs` and `/status` below it take POST, as OPA's collectors do. */
  readonly url?: string | undefined;
  readonly tokenFile?: string | undefined;
}

export interface Reports {
  start(): void;
  stop(): Promise<void>;
}

/** Events read at once, and decisions of one upload. */
const pageSize = 200;
const firstPauseMs: Ms = 1_000;
const lastPauseMs: Ms = 60_000;
const postTimeoutMs: Ms = 15_000;

export function createReports(world: {
  readonly target: ReportTarget;
  /** Where the last told event is remembered. */
  readonly cursorFile: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly store: Store;
  readonly states: () => Promise<readonly PolicyState[]>;
  /** The operator's: its mask counts. */
  readonly mask: Pick<PolicyEngine, "query"> | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}): Reports {
  const { target, store, clock } = world;
  const stopped = new AbortController();
  let wake: () => void = () => undefined;
  let working: Promise<void> = Promise.resolve();
  let unsubscribe: (() => void) | undefined;

  async function run(): Promise<void> {
    let pauseMs = firstPauseMs;
    let told = await readCursor(world.cursorFile);
    let isStatusDue = true;
    while (!stopped.signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      try {
        const events = await store.read((journal) => journal.events.since(told, pageSize));
        const states = await world.states();
        const decisions = await decisionEvents(world, events, states);
        if (decisions.length > 0) await deliver("logs", decisions);
        if (isStatusDue || events.some(({ kind }) => kind.startsWith("policy."))) {
          await deliver("status", [statusEvent(world.labels, states, clock.nowMs())]);
          isStatusDue = false;
        }
        pauseMs = firstPauseMs;
        const last = events.at(-1)?.seq;
        if (last !== undefined) {
          told = last;
          await writeCursor(world.cursorFile, told);
        }
        if (events.length === pageSize) continue;
        await Promise.race([woken, aborted(stopped.signal)]);
      } catch (error) {
        world.log.warn({ err: error }, "policy reports wait for their collector");
        await clock.sleep(pauseMs, stopped.signal).catch(() => undefined);
        pauseMs = Math.min(lastPauseMs, pauseMs * 2);
      }
    }
  }

  async function deliver(kind: "logs" | "status", events: readonly object[]): Promise<void> {
    if (target.file !== undefined)
      await appendFile(target.file, events.map((event) => `${JSON.stringify(event)}\n`).join(""), {
        mode: 0o600,
      });
    if (target.url === undefined) return;
    const url = `${target.url.replace(/\/$/, "")}/${kind}`;
    const body = JSON.stringify(kind === "logs" ? events : events[0]);
    const headers = new Headers({ "content-type": "application/json" });
    if (kind === "logs") headers.set("content-encoding", "gzip");
    if (target.tokenFile !== undefined)
      headers.set("authorization", `Bearer ${(await readFile(target.tokenFile, "utf8")).trim()}`);
    const answer = await fetch(url, {
      method: "POST",
      headers,
      body: kind === "logs" ? new Uint8Array(await pack(body)) : body,
      signal: AbortSignal.any([stopped.signal, AbortSignal.timeout(postTimeoutMs)]),
    });
    await answer.body?.cancel();
    if (!answer.ok)
      throw new Fault("policy.source_unreachable", {
        owner: "operator",
        source: url,
        problem: `HTTP ${answer.status}`,
      });
  }

  return {
    start() {
      unsubscribe = store.onCommit(() => wake());
      working = run();
    },
    async stop() {
      unsubscribe?.();
      stopped.abort();
      await working;
    },
  };
}

async function decisionEvents(
  {
    labels,
    store,
    mask,
  }: {
    readonly labels: Readonly<Record<string, string>>;
    readonly store: Store;
    readonly mask: Pick<PolicyEngine, "query"> | undefined;
  },
  events: readonly Event[],
  states: readonly PolicyState[],
): Promise<readonly object[]> {
  const made = events.filter(({ kind }) => kind === "decision.made");
  const rows = await store.read(async (journal) => {
    const found: { decision: Decision; request: Request | undefined }[] = [];
    for (const { data } of made) {
      const decision = await journal.decisions.get(String(data["decisionId"]));
      if (decision === undefined) continue;
      found.push({ decision, request: await journal.requests.get(decision.requestId) });
    }
    return found;
  });
  const told: object[] = [];
  for (const { decision, request } of rows) {
    told.push(await masked(decisionEvent(labels, decision, request, states), mask));
  }
  return told;
}

/** One decision with the answers of all owners, as OPA logs a query. */
function decisionEvent(
  labels: Readonly<Record<string, string>>,
  decision: Decision,
  request: Request | undefined,
  states: readonly PolicyState[],
): Record<string, unknown> {
  const { effect, code, findings, obligations, limits, consents } = decision;
  return {
    labels,
    decision_id: decision.id,
    bundles: Object.fromEntries(
      consents.map((consent) => [consent.owner, { revision: revisionIn(states, consent) }]),
    ),
    path: decision.point === "plan" ? "drover/main/plan_check" : "drover/main/decision",
    input: decision.input,
    result: { effect, code, findings, obligations, limits },
    requested_by: request?.subject.name ?? "",
    timestamp: new Date(decision.decidedAtMs).toISOString(),
    metrics: {
      timer_rego_query_eval_ns: Math.round(
        consents.reduce((total, { durationMs }) => total + durationMs, 0) * 1e6,
      ),
    },
    // OPA's own `req_id` is a number that counts; collectors refuse text there
    custom: {
      request_id: decision.requestId,
      consents: consents.map(({ owner, effect: answer, policyDigest, dataDigest }) => ({
        owner,
        effect: answer,
        policy_digest: policyDigest,
        data_digest: dataDigest,
      })),
    },
  };
}

/** The name that its owner published it by; without one, what it is called by its content. */
function revisionIn(
  states: readonly PolicyState[],
  { policyDigest, dataDigest }: Decision["consents"][number],
): string {
  if (policyDigest === "") return "";
  const known = states
    .flatMap(({ generations }) => generations)
    .find((one) => one.policyDigest === policyDigest && one.dataDigest === dataDigest);
  return known?.revision ?? revisionOf({ policyDigest, dataDigest });
}

function statusEvent(
  labels: Readonly<Record<string, string>>,
  states: readonly PolicyState[],
  nowMs: Ms,
): object {
  const time = (ms: Ms | undefined) => (ms === undefined ? {} : new Date(ms).toISOString());
  return {
    labels,
    timestamp: new Date(nowMs).toISOString(),
    bundles: Object.fromEntries(
      states.map((state) => [
        state.owner,
        {
          name: state.owner,
          type: "snapshot",
          active_revision: state.active?.revision ?? "",
          ...(state.lastRequestMs === undefined
            ? {}
            : {
                last_request: time(state.lastRequestMs),
                last_successful_request: time(state.lastDownloadMs ?? state.lastRequestMs),
              }),
          ...(state.lastDownloadMs === undefined
            ? {}
            : { last_successful_download: time(state.lastDownloadMs) }),
          ...(state.active === undefined
            ? {}
            : { last_successful_activation: time(state.active.activatedAtMs) }),
          ...(state.problem === undefined
            ? {}
            : { code: state.problem.code, message: state.problem.message }),
        },
      ]),
    ),
  };
}

/** Without what the operator's `system/log/mask` names. A mask that gives no answer hides everything. */
async function masked(
  event: Record<string, unknown>,
  mask: Pick<PolicyEngine, "query"> | undefined,
): Promise<object> {
  if (mask === undefined) return event;
  const answer = await mask.query("mask", event);
  if (answer.kind === "undecided") {
    if (answer.code === "policy.absent") return event;
    return { ...event, input: null, result: null, erased: ["/input", "/result"] };
  }
  const rules = Array.isArray(answer.value) ? (answer.value as unknown[]) : [];
  const copy = structuredClone(event);
  const erased: string[] = [];
  const changed: string[] = [];
  for (const rule of rules) {
    const { op, path, value } =
      typeof rule === "string"
        ? { op: "remove", path: rule, value: undefined }
        : (rule as { op?: string; path?: string; value?: unknown });
    // as OPA: only what was asked and answered may be masked
    if (typeof path !== "string" || !/^\/(input|result)(\/|$)/.test(path)) continue;
    if (!put(copy, path, op === "upsert" ? { value } : undefined)) continue;
    (op === "upsert" ? changed : erased).push(path);
  }
  return {
    ...copy,
    ...(erased.length === 0 ? {} : { erased }),
    ...(changed.length === 0 ? {} : { masked: changed }),
  };
}

/** Removes, or sets, what a JSON pointer names. False when there is nothing. */
function put(event: object, path: string, set: { readonly value: unknown } | undefined): boolean {
  const keys = path
    .slice(1)
    .split("/")
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop() ?? "";
  let place: unknown = event;
  for (const key of keys) {
    if (typeof place !== "object" || place === null || !Object.hasOwn(place, key)) return false;
    place = (place as Record<string, unknown>)[key];
  }
  if (typeof place !== "object" || place === null) return false;
  const found = place as Record<string, unknown>;
  if (set !== undefined) found[last] = set.value;
  else if (!Object.hasOwn(found, last)) return false;
  else if (Array.isArray(place)) found[last] = null;
  else delete found[last];
  return true;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function readCursor(file: string): Promise<number> {
  try {
    return Number(await readFile(file, "utf8")) || 0;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return 0;
    throw error;
  }
}

async function writeCursor(file: string, seq: number): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.new`, String(seq));
  await rename(`${file}.new`, file);
}
