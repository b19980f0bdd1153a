/**
 * The journal on SQLite: one file, write-ahead log, synchronous = FULL, so that a commit survives a power cut.
 * One connection, one transaction at a time; opening takes the next fencing epoch, and a shepherd whose epoch was
 * overtaken can write no more. Knows tables, not rules; journal.ts holds the statements.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import Database from "better-sqlite3";
import { Kysely, SqliteDialect, type Transaction } from "kysely";
import { Fault } from "#model/fault";
import type { Store } from "#ports/store";
import { createJournal } from "#store/journal";
import { migrate } from "#store/migrate";
import type { Tables } from "#store/schema";

export interface SqliteStore extends Store {
  /** Fencing epoch of this opening; greater than of any before. */
  readonly epoch: number;
  /** The name of this journal's line: kept by copies and backups, another for another installation. */
  readonly lineage: string;
}

/** How long a second process waits for a writer, for instance a backup. */
const busyTimeoutMs = 5_000;

/** Opens or creates the journal; `:memory:` keeps nothing. Faults `store.newer`, `store.migration_changed`. */
export function openSqliteStore(file: string): SqliteStore {
  const database = new Database(file);
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.pragma(`busy_timeout = ${busyTimeoutMs}`);
  migrate(database);
  const { epoch, lineage } = database
    .prepare<[string], { epoch: number; lineage: string }>(
      "update shepherd set epoch = epoch + 1, lineage = case lineage when '' then ? else lineage end where id = 1 returning epoch, lineage",
    )
    .get(randomUUID()) as { epoch: number; lineage: string };

  const kysely = new Kysely<Tables>({ dialect: new SqliteDialect({ database }) });
  const listeners = new Set<(lastSeq: number) => void>();
  // A store call inside a transaction's work would wait for itself for ever; better a loud bug.
  const inside = new AsyncLocalStorage<{ open: boolean }>();
  let closing: Promise<void> | undefined;

  async function run<T>(work: (transaction: Transaction<Tables>) => Promise<T>): Promise<T> {
    if (inside.getStore()?.open === true) {
      throw new Error("store called inside a transaction: use the journal that was handed in");
    }
    const scope = { open: true };
    try {
      return await inside.run(scope, () =>
        kysely.transaction().execute((transaction) => work(transaction)),
      );
    } finally {
      scope.open = false;
    }
  }

  return {
    epoch,
    lineage,
    async transaction(work) {
      const appended = { last: undefined as number | undefined };
      const result = await run(async (transaction) => {
        await refuseIfFenced(transaction, epoch);
        return work(createJournal(transaction, { epoch, appended }));
      });
      const { last } = appended;
      if (last !== undefined) for (const listener of listeners) listener(last);
      return result;
    },
    read: (work) =>
      run((transaction) =>
        work(createJournal(transaction, { epoch, appended: { last: undefined } })),
      ),
    onCommit(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      closing ??= kysely.destroy();
      return closing;
    },
  };
}

async function refuseIfFenced(transaction: Transaction<Tables>, epoch: number): Promise<void> {
  const row = await transaction.selectFrom("shepherd").select("epoch").executeTakeFirstOrThrow();
  if (row.epoch !== epoch) throw new Fault("store.fenced", { current: row.epoch, epoch });
}
