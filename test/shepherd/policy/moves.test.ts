import type { RecentMove } from "@drover/shepherd/model/facts";
import type { Operation } from "@drover/shepherd/model/plan";
import type { Decision, Subject } from "@drover/shepherd/model/request";
import { plan, sealPlan } from "@drover/shepherd/planner/plan";
import { Moves } from "@drover/shepherd/policy/moves";
import type { Store } from "@drover/shepherd/ports/store";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { environment, facts, host, machine, nowMs, request } from "../planner/fleet.ts";

const hosts = [host("north-1", "north"), host("south-1", "south")];
const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
const hourMs = 3_600_000;

let store: Store;
beforeEach(async () => {
  store = openSqliteStore(":memory:");
  await store.transaction(async (journal) => {
    await journal.objects.put(environment());
    await journal.objects.put(rank);
  });
});
afterEach(() => store.close());

const operator: Subject = { type: "operator", name: "olga", roles: ["operator"] };

/** Journals a move of rank-0 to south, or a resize in place, and its operation in this state. */
async function happened(
  id: string,
  of: Partial<Pick<Operation, "state" | "createdAtMs" | "endedAtMs" | "measured">> & {
    readonly subject?: Subject;
    readonly isResize?: boolean;
    readonly decidedFor?: string;
  },
): Promise<Operation> {
  const { subject = operator, isResize = false, decidedFor, ...state } = of;
  const asked = request(
    isResize ? "resize" : "move",
    [{ machineId: rank.id, ...(isResize ? { memoryMib: 300 } : { siteId: "south" }) }],
    { id: `request-${id}`, idempotencyKey: id, subject },
  );
  const drafted = plan(asked, facts(hosts, [rank]));
  if (drafted.kind === "refused") throw new Error(drafted.message);
  const sealed = sealPlan(drafted, { id: `plan-${id}`, request: asked, createdAtMs: nowMs });
  const operation: Operation = {
    id,
    kind: "adapt",
    state: "succeeded",
    environmentId: "env-ring",
    machineIds: [rank.id],
    requestId: asked.id,
    planId: sealed.id,
    grantId: `grant-${id}`,
    epoch: 1,
    progress: { percent: 100, message: "" },
    cancelRequested: false,
    createdAtMs: nowMs - 1_000,
    ...state,
  };
  await store.transaction(async (journal) => {
    await journal.requests.add(asked);
    await journal.plans.add(sealed);
    await journal.operations.put(operation);
    if (decidedFor !== undefined) await journal.decisions.add(decisionOf(asked.id, decidedFor));
  });
  return operation;
}

function decisionOf(requestId: string, owner: string): Decision {
  return {
    id: `d-${requestId}`,
    requestId,
    environmentId: "env-ring",
    point: "request",
    effect: "allow",
    code: "granted",
    message: "",
    findings: [],
    obligations: [],
    limits: {},
    consents: [],
    input: { environment: { owner } },
    decidedAtMs: nowMs,
  };
}

async function recent(moves: Moves, atMs = nowMs): Promise<readonly RecentMove[]> {
  return await store.read((journal) => moves.recent(journal, atMs));
}

test("a move is told with its cause, owner, place and measured cost", async () => {
  const measured = { durationMs: 9_000, bytes: 600_000_000, downtimeMs: 310 };
  await happened("one", { endedAtMs: nowMs, measured });
  expect(await recent(new Moves())).toEqual([
    {
      operationId: "one",
      environmentId: "env-ring",
      owner: "alice",
      machineId: rank.id,
      machineName: "rank-0",
      cause: "operator",
      atMs: nowMs - 1_000,
      fromSiteId: "north",
      toSiteId: "south",
      bytes: 600_000_000,
      downtimeMs: 310,
      outcome: "done",
    },
  ]);
});

test("what runs counts as predicted until it ends, also when it ends unseen among many others", async () => {
  const moves = new Moves();
  const running = await happened("slow", { state: "running" });
  const [predicted] = await recent(moves);
  expect(predicted).toMatchObject({ outcome: "running" });
  expect(predicted?.bytes).toBeGreaterThan(0);
  for (let n = 0; n < 40; n++) await happened(`resize-${n}`, { isResize: true, endedAtMs: nowMs });
  expect(await recent(moves)).toHaveLength(1);
  const measured = { durationMs: 1, bytes: 7, downtimeMs: 1 };
  const ended: Operation = { ...running, state: "failed", endedAtMs: nowMs, measured };
  await store.transaction((journal) => journal.operations.put(ended));
  expect(await recent(moves)).toMatchObject([{ outcome: "failed", bytes: 7 }]);
});

test("a restart finds the same", async () => {
  await happened("one", { endedAtMs: nowMs });
  await happened("two", { state: "running" });
  const before = new Moves();
  await recent(before);
  expect(await recent(new Moves())).toEqual(await recent(before));
});

test("after a day it is forgotten", async () => {
  const moves = new Moves();
  await happened("old", { createdAtMs: nowMs - 23 * hourMs, endedAtMs: nowMs - 22 * hourMs });
  expect(await recent(moves)).toHaveLength(1);
  expect(await recent(moves, nowMs + 1 * hourMs)).toHaveLength(0);
  expect(await recent(new Moves(), nowMs + 1 * hourMs)).toHaveLength(0);
});

test("what was cancelled before it began has moved nothing, and a resize is no move", async () => {
  await happened("cancelled", { state: "cancelled", endedAtMs: nowMs });
  await happened("resized", { isResize: true, endedAtMs: nowMs });
  expect(await recent(new Moves())).toEqual([]);
});

test("an environment that is gone does not take its owner's account with it", async () => {
  await happened("one", { endedAtMs: nowMs, decidedFor: "bob" });
  await store.transaction(async (journal) => {
    await journal.objects.remove("machine", rank.id);
    await journal.objects.remove("environment", "env-ring");
  });
  expect(await recent(new Moves())).toMatchObject([{ owner: "bob", machineName: rank.id }]);
});
