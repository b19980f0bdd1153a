import type { Operation } from "@drover/shepherd/model/plan";
import { plan, sealPlan } from "@drover/shepherd/planner/plan";
import { History } from "@drover/shepherd/policy/history";
import type { Store } from "@drover/shepherd/ports/store";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { facts, host, machine, nowMs, request } from "../planner/fleet.ts";

const hosts = [host("north-1", "north"), host("south-1", "south")];
const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
const minuteMs = 60_000;

let store: Store;
beforeEach(() => {
  store = openSqliteStore(":memory:");
});
afterEach(() => store.close());

/** Journals an ended operation with its plan; returns the plan. */
async function happened(
  id: string,
  asked: Parameters<typeof request>,
  ended: { endedAtMs: number; measured?: Operation["measured"]; rates?: Record<string, number> },
) {
  const known = facts(hosts, [rank], { siteRates: ended.rates ?? {} });
  const drafted = plan(request(...asked), known);
  if (drafted.kind === "refused") throw new Error(drafted.message);
  const sealed = sealPlan(drafted, {
    id: `plan-${id}`,
    request: request(...asked),
    createdAtMs: ended.endedAtMs,
  });
  await store.transaction(async (journal) => {
    await journal.plans.add(sealed);
    await journal.operations.put({
      id,
      kind: "adapt",
      state: "succeeded",
      environmentId: "env-ring",
      machineIds: [rank.id],
      requestId: `request-${id}`,
      planId: sealed.id,
      grantId: `grant-${id}`,
      epoch: 1,
      progress: { percent: 100, message: "" },
      cancelRequested: false,
      createdAtMs: ended.endedAtMs - 1_000,
      endedAtMs: ended.endedAtMs,
      measured: ended.measured,
    });
  });
  return sealed;
}

test("the next move between two sites is predicted from what the last one took", async () => {
  const asked = ["move", [{ machineId: rank.id, siteId: "south" }]] as Parameters<typeof request>;
  const measured = { durationMs: 9_000, bytes: 600_000_000, downtimeMs: 310 };
  const first = await happened("one", asked, { endedAtMs: nowMs, measured });
  expect(first.cost.durationMs).toBeLessThan(5_000);
  const rates = await store.read((journal) => new History().siteRates(journal, nowMs));
  expect(Object.keys(rates)).toEqual(["north>south"]);
  const second = await happened("two", asked, { endedAtMs: nowMs, rates });
  // A slower copy is also predicted to send more dirtied pages: within a tenth, not exact.
  expect(Math.abs(second.cost.durationMs - 9_000)).toBeLessThan(900);
});

test("one slow move among five does not spoil the prediction", async () => {
  const asked = ["move", [{ machineId: rank.id, siteId: "south" }]] as Parameters<typeof request>;
  for (const [n, durationMs] of [4_000, 4_100, 60_000, 4_050, 3_950].entries()) {
    const measured = { durationMs, bytes: 300_000_000, downtimeMs: 300 };
    await happened(`${n}`, asked, { endedAtMs: nowMs + n, measured });
  }
  const rates = await store.read((journal) => new History().siteRates(journal, nowMs));
  const next = await happened("next", asked, { endedAtMs: nowMs, rates });
  expect(Math.abs(next.cost.durationMs - 4_050)).toBeLessThan(100);
});

test("the hour's low is what operations of the hour found and left, and what is there now", async () => {
  const grown = { ...rank, effective: { ...rank.effective, memoryMib: 800, cpuPercent: 60 } };
  await store.transaction((journal) => journal.objects.put(grown));
  const low = async (atMs: number) =>
    (await store.read((journal) => new History().hourLow(journal, "env-ring", atMs)))[rank.id];
  expect(await low(nowMs)).toEqual({ vcpus: 1, cpuPercent: 60, memoryMib: 800 });
  await happened("grew", ["resize", [{ machineId: rank.id, memoryMib: 800 }]], {
    endedAtMs: nowMs,
  });
  expect(await low(nowMs + 59 * minuteMs)).toEqual({ vcpus: 1, cpuPercent: 60, memoryMib: 256 });
  expect(await low(nowMs + 61 * minuteMs)).toEqual({ vcpus: 1, cpuPercent: 60, memoryMib: 800 });
});

test("recent requests are those of the hour, of one environment, the newest of each subject", () => {
  const history = new History();
  const ask = (n: number, name: string, environmentId = "env-ring") =>
    history.add(
      request("resize", [], {
        id: `${name}-${n}`,
        environmentId,
        receivedAtMs: nowMs + n,
        subject: { type: "guest", name, roles: [] },
      }),
      "deny",
    );
  for (let n = 0; n < 1_000; n++) ask(n, "flooder");
  ask(5, "honest");
  ask(6, "honest", "env-other");
  const rows = history.recent("env-ring", nowMs + 1_000);
  expect(rows.filter(({ subject }) => subject === "honest")).toHaveLength(1);
  const flood = rows.filter(({ subject }) => subject === "flooder");
  expect(flood).toHaveLength(128);
  expect(flood.at(-1)?.id).toBe("flooder-999");
  expect(history.recent("env-ring", nowMs + 61 * minuteMs)).toEqual([]);
});
