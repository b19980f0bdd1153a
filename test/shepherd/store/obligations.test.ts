import type { OwedObligation } from "@drover/shepherd/model/obligation";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { expect, test } from "@jest/globals";

const owed = (of: Partial<OwedObligation>): OwedObligation => ({
  id: "o-1",
  demand: {
    id: "review",
    params: { within_ms: 1000, otherwise: "tell" },
    owner: "operator",
    rule: "aftercare",
    instance: "i",
  },
  environmentId: "ring",
  requestId: "r-1",
  decisionId: "d-1",
  operationId: "op-1",
  machineIds: ["m-1"],
  askedBy: "rank-0",
  disclose: "owner",
  state: "waiting",
  owedAtMs: 1,
  ...of,
});

test("an obligation is found by state, request and environment, the newest first, as it is now", async () => {
  const store = openSqliteStore(":memory:");
  await store.transaction(async (journal) => {
    await journal.obligations.put(owed({}));
    await journal.obligations.put(owed({ id: "o-2", requestId: "r-2" }));
    await journal.obligations.put(owed({ id: "o-3", environmentId: "lab" }));
    await journal.obligations.put(owed({ id: "o-2", requestId: "r-2", state: "missed" }));
  });
  const idsOf = (filter: Parameters<typeof list>[0]) =>
    list(filter).then((found) => found.map(({ id }) => id));
  const list = (filter: {
    states?: OwedObligation["state"][];
    requestId?: string;
    environmentId?: string;
    limit?: number;
  }) => store.read((journal) => journal.obligations.list(filter));
  expect(await idsOf({})).toEqual(["o-3", "o-2", "o-1"]);
  expect(await idsOf({ limit: 1 })).toEqual(["o-3"]);
  expect(await idsOf({ states: ["waiting"] })).toEqual(["o-3", "o-1"]);
  expect(await idsOf({ requestId: "r-2" })).toEqual(["o-2"]);
  expect(await idsOf({ environmentId: "ring", states: ["missed", "kept"] })).toEqual(["o-2"]);
  expect(await store.read((journal) => journal.obligations.get("o-1"))).toEqual(owed({}));
  expect(await store.read((journal) => journal.obligations.get("o-9"))).toBeUndefined();
  await store.close();
});
