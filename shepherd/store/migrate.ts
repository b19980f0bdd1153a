/**
 * Brings a database to the newest schema: numbered SQL files, each once, in order, in one transaction with its mark.
 * A migration is final once committed: a changed file, or a database newer than this program, is refused.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type Database from "better-sqlite3";
import { Fault } from "#model/fault";

interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly digest: string;
}

const folder = join(import.meta.dirname, "migrations");

/** All migrations of this program, by number. */
export function migrations(): readonly Migration[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .toSorted()
    .map((name) => {
      const sql = readFileSync(join(folder, name), "utf8");
      const digest = createHash("sha256").update(sql).digest("hex");
      return { number: Number.parseInt(name, 10), name, sql, digest };
    });
}

export function migrate(database: Database.Database): void {
  database.exec(
    "create table if not exists migrations (number integer primary key, name text not null, digest text not null)",
  );
  const done = database
    .prepare<[], { number: number; name: string; digest: string }>(
      "select number, name, digest from migrations order by number",
    )
    .all();
  const known = migrations();
  for (const row of done) {
    const migration = known.find((candidate) => candidate.number === row.number);
    if (migration === undefined) throw new Fault("store.newer", { migration: row.name });
    if (migration.digest !== row.digest) {
      throw new Fault("store.migration_changed", { migration: row.name });
    }
  }
  for (const migration of known.slice(done.length)) {
    database.transaction(() => {
      database.exec(migration.sql);
      database
        .prepare("insert into migrations (number, name, digest) values (?, ?, ?)")
        .run(migration.number, migration.name, migration.digest);
    })();
  }
}

/** The schema as SQL text, sorted, for the golden file. */
export function dumpSchema(database: Database.Database): string {
  const rows = database
    .prepare<[], { sql: string }>(
      "select sql from sqlite_schema where sql is not null and name not like 'sqlite_%' order by type desc, name",
    )
    .all();
  return `${rows.map((row) => `${row.sql};`).join("\n\n")}\n`;
}
