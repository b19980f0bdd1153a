import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEvidence, withEvidence } from "@drover/shepherd/evidence/evidence";
import type { Request } from "@drover/shepherd/model/request";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterAll, describe, expect, test } from "@jest/globals";
import Database from "better-sqlite3";

const folder = mkdtempSync(join(tmpdir(), "drover-evidence-"));
afterAll(() => rmSync(folder, { recursive: true }));

const request: Request = {
  id: "r1",
  kind: "resize",
  environmentId: "ring",
  subject: { type: "guest", name: "rank-0", roles: [] },
  machines: [{ machineId: "m1", memoryMib: 320 }],
  links: [],
  reason: "lanczos phase",
  idempotencyKey: "7",
  receivedAtMs: 1,
};

/** A journal of a request, progress without weight, and enough events for more than one page. */
async function journalled(file: string) {
  const store = withEvidence(openSqliteStore(file));
  await store.transaction(async (journal) => {
    await journal.requests.add(request);
    await journal.events.append({ kind: "request.received", atMs: 1, data: { requestId: "r1" } });
    await journal.events.append({ kind: "operation.progress", atMs: 2, data: { percent: 3 } });
  });
  await store.transaction(async (journal) => {
    for (let n = 0; n < 600; n += 1) {
      await journal.events.append({ kind: "step.ended", atMs: 3, data: { n, absent: undefined } });
    }
  });
  return store;
}

describe("the evidence log", () => {
  test("an untouched log verifies, whatever its length", async () => {
    const store = await journalled(":memory:");
    const evidence = createEvidence(store);
    const verdict = await evidence.verify();
    expect(verdict).toMatchObject({ ok: true, entries: 601, brokenAt: undefined });
    const [last] = await evidence.list(600, 10);
    expect(last).toMatchObject({ seq: 601, kind: "step.ended", hash: verdict.head });
    await store.close();
  });

  test("an empty log verifies", async () => {
    const store = withEvidence(openSqliteStore(":memory:"));
    expect(await createEvidence(store).verify()).toMatchObject({ ok: true, entries: 0 });
    await store.close();
  });

  test("a transaction that fails leaves no entry", async () => {
    const store = await journalled(":memory:");
    await expect(
      store.transaction(async (journal) => {
        await journal.events.append({ kind: "host.state", atMs: 4, data: {} });
        throw new Error("no");
      }),
    ).rejects.toThrow("no");
    expect(await createEvidence(store).verify()).toMatchObject({ ok: true, entries: 601 });
    await store.close();
  });

  test.each([
    ["a request's text changed", "update requests set body = replace(body, '320', '999')", 1],
    ["an event changed", 'update events set data = \'{"n":0,"x":1}\' where seq = 3', 2],
    ["an event removed", "delete from events where seq = 600", 599],
    ["an entry removed", "delete from evidence where seq = 300", 300],
    ["the last entry removed", "delete from evidence where seq = 601", 601],
    ["the last event removed", "delete from events where seq = 602", 601],
    ["an entry's time changed", "update evidence set at_ms = 9 where seq = 2", 2],
    [
      "an event put in between",
      "insert into events (seq, kind, at_ms, data, epoch) values (900, 'host.state', 1, '{}', 1)",
      602,
    ],
  ])("%s is found", async (_name, sql, brokenAt) => {
    const file = join(folder, `${brokenAt}-${sql.length}.sqlite`);
    const store = await journalled(file);
    const intruder = new Database(file);
    intruder.exec(sql);
    intruder.close();
    expect(await createEvidence(store).verify()).toMatchObject({ ok: false, brokenAt });
    await store.close();
  });
});
