import type { EventKind } from "@drover/shepherd/model/event";
import { watchEvents } from "@drover/shepherd/policy/event-watch";
import type { Store } from "@drover/shepherd/ports/store";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, expect, test } from "@jest/globals";
import pino from "pino";

const log = pino({ level: "silent" });
const opened: Store[] = [];
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

function openStore(): Store {
  const store = openSqliteStore(":memory:");
  opened.push(store);
  return store;
}

/** One commit. */
const append = (store: Store, ...kinds: readonly EventKind[]) =>
  store.transaction(async (journal) => {
    for (const kind of kinds) await journal.events.append({ kind, atMs: 1, data: {} });
  });

function watched(store: Store) {
  const woken = { times: 0 };
  const end = watchEvents(
    { store, log },
    {
      isWanted: ({ kind }) => kind === "operation.ended",
      wake: () => {
        woken.times += 1;
      },
      sleeper: "a test",
    },
  );
  return { woken, end };
}

/** Every read that was asked for before is over. */
const settled = async (store: Store) => {
  for (let n = 0; n < 10; n += 1) await store.read(async () => undefined);
};

const many = (count: number): EventKind[] =>
  Array.from({ length: count }, () => "operation.progress");

test.each<[string, readonly EventKind[], number]>([
  ["the wanted event", ["operation.ended"], 1],
  ["another", ["grant.issued"], 0],
  ["it is not the last of its commit", ["operation.ended", "grant.issued"], 1],
  ["a commit of several pages, with it in front", ["operation.ended", ...many(450)], 1],
  ["a commit of several pages, with it behind", [...many(450), "operation.ended"], 1],
])("wakes for what it waits for: %s", async (_, kinds, times) => {
  const store = openStore();
  await append(store, "operation.ended", "grant.issued");
  const { woken } = watched(store);
  await settled(store);
  expect(woken.times).toBe(0);
  await append(store, ...kinds);
  await settled(store);
  expect(woken.times).toBe(times);
});

test("what is committed while it reads is read as well", async () => {
  const store = openStore();
  const { woken } = watched(store);
  await settled(store);
  await Promise.all([
    append(store, "grant.issued"),
    append(store, "grant.issued"),
    append(store, "operation.ended"),
  ]);
  await settled(store);
  expect(woken.times).toBeGreaterThan(0);
});

test("events that could not be read are read with the next commit", async () => {
  const store = openStore();
  let broken = false;
  const { woken } = watched({
    ...store,
    read: (work) => (broken ? Promise.reject(new Error("no disk")) : store.read(work)),
  });
  await settled(store);
  broken = true;
  await append(store, "operation.ended");
  await settled(store);
  expect(woken.times).toBe(0);
  broken = false;
  await append(store, "grant.issued");
  await settled(store);
  expect(woken.times).toBe(1);
});

test("nothing after the end", async () => {
  const store = openStore();
  const { woken, end } = watched(store);
  end();
  await append(store, "operation.ended");
  await settled(store);
  expect(woken.times).toBe(0);
});
