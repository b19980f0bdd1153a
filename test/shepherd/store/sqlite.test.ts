import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isFault } from "@drover/shepherd/model/fault";
import { dumpSchema, migrate } from "@drover/shepherd/store/migrate";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterAll, expect, test } from "@jest/globals";
import Database from "better-sqlite3";
import { storeContract } from "../../contracts/store.ts";

const folder = mkdtempSync(join(tmpdir(), "drover-store-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const freshFile = () => join(folder, `${(count += 1)}.sqlite`);

storeContract("sqlite in memory", () => openSqliteStore(":memory:"));
storeContract("sqlite on a file", () => openSqliteStore(freshFile()));

test("the schema is the golden file", () => {
  const golden = join(import.meta.dirname, "../../golden/store/schema.sql");
  const database = new Database(":memory:");
  migrate(database);
  const schema = dumpSchema(database);
  if (process.env["GOLDEN"] === "write") writeFileSync(golden, schema);
  expect(schema).toBe(readFileSync(golden, "utf8"));
});

test("a journal of a newer shepherd, and a changed migration, are refused", () => {
  const file = freshFile();
  const database = new Database(file);
  migrate(database);
  database.prepare("update migrations set digest = 'other'").run();
  expect(code(() => openSqliteStore(file))).toBe("store.migration_changed");
  database.prepare("delete from migrations").run();
  database.prepare("insert into migrations values (9999, '9999-later.sql', '')").run();
  expect(code(() => openSqliteStore(file))).toBe("store.newer");
  database.close();
});

test("opening again fences the shepherd that had it open", async () => {
  const file = freshFile();
  const old = openSqliteStore(file);
  const young = openSqliteStore(file);
  expect(young.epoch).toBe(old.epoch + 1);
  await expect(old.transaction(async () => undefined)).rejects.toMatchObject({
    code: "store.fenced",
  });
  await young.transaction(async () => undefined);
  await old.close();
  await young.close();
});

test("what was acknowledged survives kill -9 in the middle of writing", async () => {
  const file = freshFile();
  const writer = `
    import { openSqliteStore } from "@drover/shepherd/store/sqlite";
    const store = openSqliteStore(${JSON.stringify(file)});
    for (;;) {
      const event = await store.transaction((journal) =>
        journal.events.append({ kind: "host.state", atMs: 0, data: {} }));
      process.stdout.write(event.seq + "\\n");
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", writer], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: import.meta.dirname,
  });
  let acknowledged = "";
  child.stdout.on("data", (chunk: Buffer) => {
    acknowledged += chunk.toString();
    if (acknowledged.length > 500) child.kill("SIGKILL");
  });
  await once(child, "close");
  const last = Number(acknowledged.trimEnd().split("\n").at(-1));
  const store = openSqliteStore(file);
  const stored = await store.read((journal) => journal.events.last());
  await store.close();
  expect(last).toBeGreaterThan(10);
  expect(stored).toBeGreaterThanOrEqual(last);
});

function code(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    return isFault(error) ? error.code : String(error);
  }
  return undefined;
}
