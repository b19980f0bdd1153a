/**
 * The journal on SQLite: one file, write-ahead log, synchronous = FULL, so that a commit survives a power cut.
 * One connection, one transaction at a time, waiting writes together in one commit (transactions.ts); opening takes the
 * next fencing epoch, and a shepherd whose epoch was overtaken can write no more. Knows tables, not rules; journal.ts
 * holds the statements.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import Database from "better-sqlite3";
import { Kysely, type SqliteDatabase, SqliteDialect } from "kysely";
import { Fault } from "#model/fault";
import type { Journal, Store } from "#ports/store";
import { createJournal } from "#store/journal";
import { KeptObjects } from "#store/kept-objects";
import { migrate } from "#store/migrate";
import type { Tables } from "#store/schema";
import { Transactions } from "#store/transactions";
import { lastResortPages, WalCheckpoints } from "#store/wal-checkpoints";

export interface SqliteStore extends Store {
  /** Fencing epoch of this opening; greater than of any before. */
  readonly epoch: number;
  /** The name of this journal's line: kept by copies and backups, another for another installation. */
  readonly lineage: string;
  /** Rows of objects that were parsed since the opening: each once, whoever reads it. */
  objectsParsed(): number;
}

/** How long a second process waits for a writer, for instance a backup. */
const busyTimeoutMs = 5_000;

/** Opens or creates the journal; `:memory:` keeps nothing. Faults `store.newer`, `store.migration_changed`. */
export function openSqliteStore(file: string): SqliteStore {
  const database = new Database(file);
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.pragma(`busy_timeout = ${busyTimeoutMs}`);
  database.pragma(`wal_autocheckpoint = ${lastResortPages}`);
  migrate(database);
  const { epoch, lineage } = database
    .prepare<[string], { epoch: number; lineage: string }>(
      "update shepherd set epoch = epoch + 1, lineage = case lineage when '' then ? else lineage end where id = 1 returning epoch, lineage",
    )
    .get(randomUUID()) as { epoch: number; lineage: string };

  const kysely = new Kysely<Tables>({
    dialect: new SqliteDialect({ database: keepingStatements(database) }),
  });
  const current = database.prepare<[], { epoch: number }>("select epoch from shepherd");
  const checkpoints = file === ":memory:" ? undefined : new WalCheckpoints(file);
  const kept = new KeptObjects(database);
  const transactions = new Transactions(database, {
    gather: checkpoints !== undefined,
    onBegin: () => {
      refuseIfFenced(current.get()?.epoch, epoch);
      kept.begin();
    },
    onSavepoint: () => kept.savepoint(),
    onUndo: (to) => kept.takeBack(to),
    onCommit: () => {
      kept.committed();
      checkpoints?.afterCommit();
    },
    onRead: () => kept.begin(),
  });
  const listeners = new Set<(lastSeq: number) => void>();
  // A store call inside a transaction's work would wait for itself for ever; better a loud bug.
  const inside = new AsyncLocalStorage<{ open: boolean }>();
  let closing: Promise<void> | undefined;

  /** The work with a journal that leaves the last event's sequence in `appended`. */
  function scoped<T>(
    work: (journal: Journal) => Promise<T>,
    appended: { last: number | undefined },
  ): () => Promise<T> {
    if (inside.getStore()?.open === true) {
      throw new Error("store called inside a transaction: use the journal that was handed in");
    }
    const scope = { open: true };
    return async () => {
      try {
        return await inside.run(scope, () =>
          work(createJournal(kysely, { epoch, kept, appended })),
        );
      } finally {
        scope.open = false;
      }
    };
  }

  return {
    epoch,
    lineage,
    objectsParsed: () => kept.parsed,
    async transaction(work) {
      const appended = { last: undefined as number | undefined };
      const result = await transactions.write(scoped(work, appended));
      const { last } = appended;
      if (last !== undefined) for (const listener of listeners) listener(last);
      return result;
    },
    read: async (work) => await transactions.read(scoped(work, { last: undefined })),
    onCommit(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      closing ??= (async () => {
        await transactions.idle();
        await checkpoints?.close();
        await kysely.destroy();
      })();
      return closing;
    },
  };
}

function refuseIfFenced(current: number | undefined, epoch: number): void {
  if (current !== epoch) throw new Fault("store.fenced", { current, epoch });
}

/** More statements than we have; those with lists of any length must not fill the memory. */
const maxStatements = 500;

/** Kysely prepares a statement each time it runs it; this one remembers them. */
function keepingStatements(database: Database.Database): SqliteDatabase {
  const kept = new Map<string, ReturnType<SqliteDatabase["prepare"]>>();
  return {
    prepare(sql) {
      const known = kept.get(sql);
      if (known !== undefined) return known;
      const made = database.prepare(sql);
      if (kept.size < maxStatements) kept.set(sql, made);
      return made;
    },
    close: () => void database.close(),
  };
}
