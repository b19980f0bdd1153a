/** Writes that wait together share a commit: durable before told, and one that fails takes nobody with it. */
import { AsyncLocalStorage } from "node:async_hooks";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { Transactions } from "@drover/shepherd/store/transactions";
import { WalCheckpoints } from "@drover/shepherd/store/wal-checkpoints";
import { afterAll, beforeEach, expect, test } from "@jest/globals";
import Database from "better-sqlite3";

const folder = mkdtempSync(join(tmpdir(), "drover-transactions-"));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
let file: string;
let database: Database.Database;
let commits: number;
let begins: number;
let refuse: Error | undefined;
let queue: Transactions;

beforeEach(() => {
  file = join(folder, `${(count += 1)}.sqlite`);
  database = new Database(file);
  database.pragma("journal_mode = WAL");
  database.exec("create table said (word text unique)");
  [commits, begins, refuse] = [0, 0, undefined];
  queue = new Transactions(database, {
    gather: true,
    // a busy machine may take long for what belongs together
    togetherMs: 600_000,
    onBegin: () => {
      begins += 1;
      if (refuse !== undefined) throw refuse;
    },
    onCommit: () => {
      commits += 1;
    },
  });
});

const say = (word: string) => async (): Promise<string> => {
  database.prepare("insert into said values (?)").run(word);
  await Promise.resolve();
  return word;
};
const words = (from: Database.Database): unknown[] =>
  from.prepare("select word from said order by rowid").pluck().all();

test("what is asked for together is one commit, and the others cannot see it before", async () => {
  const outsider = new Database(file, { readonly: true });
  let seenMeanwhile: unknown[] = [];
  const said = await Promise.all([
    queue.write(say("a")),
    queue.write(async () => {
      seenMeanwhile = words(outsider);
      return await say("b")();
    }),
    queue.write(say("c")),
  ]);
  expect({ said, seenMeanwhile, commits, durable: words(outsider) }).toEqual({
    said: ["a", "b", "c"],
    seenMeanwhile: [],
    commits: 1,
    durable: ["a", "b", "c"],
  });
  outsider.close();
});

test("one that fails takes back only its own", async () => {
  const told = await Promise.allSettled([
    queue.write(say("a")),
    queue.write(async () => {
      await say("half")();
      throw new Error("no");
    }),
    queue.write(say("a")),
    queue.write(say("b")),
  ]);
  expect(told.map(({ status }) => status)).toEqual([
    "fulfilled",
    "rejected",
    "rejected",
    "fulfilled",
  ]);
  expect([words(database), commits]).toEqual([["a", "b"], 1]);
});

test("a commit that is refused tells all of its writes, and the next one begins anew", async () => {
  refuse = new Error("fenced");
  const told = await Promise.allSettled([queue.write(say("a")), queue.write(say("b"))]);
  expect(told.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  refuse = undefined;
  await queue.write(say("c"));
  expect([words(database), commits, begins]).toEqual([["c"], 1, 3]);
});

test("when SQLite gives up a whole transaction by itself, nobody is told that it was written", async () => {
  const told = await Promise.allSettled([
    queue.write(say("a")),
    queue.write(async () => {
      database.exec("rollback");
      throw new Error("disk full");
    }),
    queue.write(say("c")),
  ]);
  expect(told.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
  expect(words(database)).toEqual(["c"]);
});

test("a read sees every write that was asked for before it, and none that is not committed", async () => {
  const first = queue.write(say("a"));
  const seen = queue.read(async () => words(database));
  const second = queue.write(say("b"));
  await Promise.all([first, second]);
  expect((await seen)[0]).toBe("a");
  expect(database.inTransaction).toBe(false);
  await expect(
    queue.read(async () => {
      throw new Error("no");
    }),
  ).rejects.toThrow("no");
  expect(database.inTransaction).toBe(false);
});

test("more than fit into one commit are several, in order", async () => {
  const all = Array.from({ length: 200 }, (_, n) => `w${n}`);
  await Promise.all(all.map((word) => queue.write(say(word))));
  expect(words(database)).toEqual(all);
  expect(commits).toBeGreaterThanOrEqual(4);
  await queue.idle();
});

test("a commit is closed in time, also when more is waiting", async () => {
  const impatient = new Transactions(database, {
    gather: true,
    togetherMs: 0,
    onBegin: () => undefined,
    onCommit: () => {
      commits += 1;
    },
  });
  await Promise.all(["a", "b", "c"].map((word) => impatient.write(say(word))));
  expect([words(database), commits]).toEqual([["a", "b", "c"], 3]);
});

test("each works in the context of its own asker", async () => {
  const who = new AsyncLocalStorage<string>();
  const asked = ["a", "b"].map((name) =>
    who.run(name, () => queue.write(async () => who.getStore())),
  );
  expect(await Promise.all(asked)).toEqual(["a", "b"]);
});

test("the log is copied beside the commits, and what was written is whole", async () => {
  const path = join(folder, "copied.sqlite");
  const writer = new Database(path);
  writer.pragma("journal_mode = WAL");
  writer.pragma("wal_autocheckpoint = 0");
  writer.exec("create table said (word text)");
  const checkpoints = new WalCheckpoints(path);
  const insert = writer.prepare("insert into said values (?)");
  const page = "x".repeat(1 << 20);
  const log = (): { log: number; checkpointed: number } => {
    const [row] = writer.pragma("wal_checkpoint(NOOP)") as { log: number; checkpointed: number }[];
    if (row === undefined) throw new Error("SQLite always answers");
    return row;
  };
  for (let n = 0; n < 6; n += 1) insert.run(page);
  expect(log().checkpointed).toBe(0);
  for (;;) {
    checkpoints.afterCommit();
    if (log().checkpointed > 0) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await checkpoints.close();
  writer.close();
  const reader = new Database(path, { readonly: true });
  expect(reader.prepare("select count(*) from said").pluck().get()).toBe(6);
  reader.close();
});

test("a store that was written a lot closes and opens again with everything", async () => {
  const path = join(folder, "store.sqlite");
  const store = openSqliteStore(path);
  const text = "y".repeat(200_000);
  for (let n = 0; n < 60; n += 1)
    await store.transaction((journal) =>
      journal.events.append({ kind: "host.state", atMs: n, data: { text } }),
    );
  await store.close();
  const again = openSqliteStore(path);
  expect(await again.read((journal) => journal.events.last())).toBe(60);
  await again.close();
});
