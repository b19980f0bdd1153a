/**
 * Adds a row by a statement whose text is made once: what every decision writes took Kysely three times as long to build as
 * SQLite to run. Checked against the schema's types like any of Kysely's. Knows no table.
 */
import { CompiledQuery, type Insertable, type Kysely } from "kysely";
import type { Tables } from "#store/schema";

/** Of a row with just these columns; absent values must be null. Returns its rowid. */
export async function insert<Table extends keyof Tables>(
  db: Kysely<Tables>,
  table: Table,
  row: Readonly<Insertable<Tables[Table]>>,
): Promise<number> {
  const text = statementOf(table, Object.keys(row));
  const { insertId } = await db.executeQuery(CompiledQuery.raw(text, Object.values(row)));
  return Number(insertId);
}

/** A statement of constant text; returns how many rows it changed. */
export async function run(
  db: Kysely<Tables>,
  text: string,
  values: readonly unknown[],
): Promise<number> {
  const { numAffectedRows = 0n } = await db.executeQuery(CompiledQuery.raw(text, [...values]));
  return Number(numAffectedRows);
}

/** By table and columns: as many as there are callers. */
const statements = new Map<string, string>();

function statementOf(table: string, columns: readonly string[]): string {
  const name = `${table} ${columns.join()}`;
  const known = statements.get(name);
  if (known !== undefined) return known;
  const made = `insert into ${table} (${columns.join(", ")}) values (${columns.map(() => "?").join(", ")})`;
  statements.set(name, made);
  return made;
}
