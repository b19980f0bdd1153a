/** Objects are parsed once and shared: what is handed out cannot be changed, and follows every transaction's fate. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineRecord } from "@drover/shepherd/model/objects";
import type { Journal } from "@drover/shepherd/ports/store";
import { createRandom } from "@drover/shepherd/simulated/random";
import { KeptObjects } from "@drover/shepherd/store/kept-objects";
import { openSqliteStore, type SqliteStore } from "@drover/shepherd/store/sqlite";
import { afterAll, expect, test } from "@jest/globals";
import Database from "better-sqlite3";
import { machineRecord } from "../network/records.ts";

const folder = mkdtempSync(join(tmpdir(), "drover-kept-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const freshFile = () => join(folder, `${(count += 1)}.sqlite`);
const record = (n: number): MachineRecord => {
  const padded = String(n).padStart(4, "0");
  const place = { hostId: `north-${n % 3}`, networkIds: [], address: "" };
  return {
    ...machineRecord({ environmentId: `ring-${n % 2}`, name: `m-${padded}`, ...place }),
    id: `id-${padded}`,
  };
};
const machines = (journal: Journal) => journal.objects.list("machine");
/** What is really in the table, in the order that lists promise. */
const rowsOf = (file: string): unknown[] => {
  const database = new Database(file, { readonly: true });
  const rows = database
    .prepare("select id, key, version, effective from objects where kind = 'machine' order by key")
    .all();
  database.close();
  return rows;
};
const asRows = (records: readonly MachineRecord[]): unknown[] =>
  records.map(({ id, key, version, effective }) => ({
    id,
    key,
    version,
    effective: JSON.stringify(effective),
  }));

async function filled(rows: number): Promise<string> {
  const file = freshFile();
  const store = openSqliteStore(file);
  await store.transaction(async (journal) => {
    for (let n = 0; n < rows; n += 1) await journal.objects.put(record(n));
  });
  await store.close();
  return file;
}

test("however many look however often, a row is parsed once, and again when it was written", async () => {
  const store = openSqliteStore(await filled(450));
  for (let round = 0; round < 3; round += 1) {
    await store.read(machines);
    await store.read((journal) => journal.objects.list("machine", { environmentId: "ring-1" }));
    await store.read((journal) => journal.objects.get("machine", "id-0007"));
  }
  expect(store.objectsParsed()).toBe(450);
  await store.transaction((journal) => journal.objects.put({ ...record(7), version: 2 }));
  await store.read(machines);
  expect(store.objectsParsed()).toBe(451);
  await store.close();
});

test("while a large fleet is read, others have their turn", async () => {
  const store = openSqliteStore(await filled(1_000));
  let turns = 0;
  let isReading = true;
  const others = () => {
    turns += 1;
    if (isReading) setImmediate(others);
  };
  setImmediate(others);
  const all = await store.read(machines);
  isReading = false;
  expect(all).toHaveLength(1_000);
  expect(turns).toBeGreaterThanOrEqual(4);
  await store.close();
});

test("a list is the same until something of it changes, and then an old one stays as it was", async () => {
  const store = openSqliteStore(await filled(9));
  const all = await store.read(machines);
  const here = (hostId: string) =>
    store.read((journal) => journal.objects.list("machine", { hostId }));
  const [first, second] = [await here("north-0"), await here("north-1")];
  expect(first.map(({ id }) => id)).toEqual(["id-0000", "id-0006", "id-0003"]);
  const moved = { ...record(0), version: 2 };
  await store.transaction((journal) =>
    journal.objects.put({ ...moved, effective: { ...moved.effective, hostId: "north-1" } }),
  );
  expect(first).toHaveLength(3);
  expect((await here("north-0")).map(({ id }) => id)).toEqual(["id-0006", "id-0003"]);
  expect((await here("north-1")).map(({ id }) => id)).toContain("id-0000");
  expect(second).toHaveLength(3);
  expect(all[0]?.version).toBe(1);
  expect((await store.read(machines))[0]?.version).toBe(2);
  expect(await store.read(machines)).toBe(await store.read(machines));
  await store.close();
});

test("nobody can change what the others see", async () => {
  const store = openSqliteStore(":memory:");
  const mine = structuredClone(record(1)) as {
    -readonly [Field in keyof MachineRecord]: MachineRecord[Field];
  };
  await store.transaction((journal) => journal.objects.put(mine));
  mine.key = "ring-1/other";
  const [one] = await store.read(machines);
  expect(one?.key).toBe(record(1).key);
  expect(() => Object.assign(one?.spec.baseline ?? {}, { memoryMib: 1 })).toThrow(TypeError);
  const list = (await store.read(machines)) as MachineRecord[];
  expect(() => list.push(record(2))).toThrow(TypeError);
  await store.close();
});

test("what others wrote to the file is seen, and a refused write leaves nothing", async () => {
  const file = await filled(3);
  const old = openSqliteStore(file);
  expect(await old.read(machines)).toHaveLength(3);
  const young = openSqliteStore(file);
  await young.transaction((journal) => journal.objects.put(record(3)));
  expect(await old.read(machines)).toHaveLength(4);
  await expect(old.transaction((journal) => journal.objects.put(record(4)))).rejects.toMatchObject({
    code: "store.fenced",
  });
  expect(await old.read(machines)).toHaveLength(4);
  await old.close();
  await young.close();
});

test("a commit that is lost whole is taken back whole", async () => {
  const database = new Database(await filled(3));
  const kept = new KeptObjects(database);
  kept.begin();
  const shelf = await kept.shelf("machine");
  kept.savepoint();
  await kept.wrote("machine", "id-0001", undefined);
  kept.savepoint();
  await kept.wrote("machine", "id-0002", undefined);
  expect(shelf.list({})).toHaveLength(1);
  kept.takeBack("begin");
  expect(shelf.list({}).map(({ id }) => id)).toEqual(["id-0000", "id-0002", "id-0001"]);
  database.close();
});

/** Puts, renames, moves and removes at random; a third of the transactions fail at their end. */
async function scribble(store: SqliteStore, random: () => number): Promise<void> {
  const pick = (below: number) => Math.floor(random() * below);
  const fails = pick(3) === 0;
  const changes = Array.from({ length: 1 + pick(4) }, () => ({
    n: pick(12),
    what: pick(4),
    name: pick(40),
    host: pick(4),
  }));
  const work = store.transaction(async (journal) => {
    for (const { n, what, name, host } of changes) {
      const fresh = record(n);
      const before = await journal.objects.get("machine", fresh.id);
      if (what === 0) await journal.objects.remove("machine", fresh.id);
      const key = `${fresh.environmentId}/n-${name}`;
      const taken = await journal.objects.findByKey("machine", key);
      if (what === 0 || (taken !== undefined && taken.id !== fresh.id)) continue;
      await journal.objects.put({
        ...fresh,
        key,
        version: (before?.version ?? 0) + 1,
        effective: { ...fresh.effective, hostId: host === 0 ? "" : `north-${host}` },
      });
    }
    if (fails) throw new Error("changed its mind");
  });
  await work.catch((error: unknown) => {
    if (!fails) throw error;
  });
}

test("after any mix of writes that stay and writes that fail, memory says what the table says", async () => {
  const file = await filled(6);
  const store = openSqliteStore(file);
  const random = createRandom(11);
  for (let round = 0; round < 60; round += 1) {
    // together: they share commits, and those that fail go back to savepoints inside
    await Promise.all(Array.from({ length: 4 }, () => scribble(store, random)));
    const all = await store.read(machines);
    expect(asRows(all)).toEqual(rowsOf(file));
    const byHost = await Promise.all(
      ["", "north-0", "north-1", "north-2", "north-3"].map((hostId) =>
        store.read((journal) => journal.objects.list("machine", { hostId })),
      ),
    );
    expect(new Set(byHost.flat())).toEqual(new Set(all));
    expect(byHost.flat()).toHaveLength(all.length);
  }
  await store.close();
});
