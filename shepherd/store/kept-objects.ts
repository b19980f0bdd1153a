/**
 * The declared objects in memory, as the one connection sees them: a row is parsed once, however many look at it, and
 * deep-frozen, so that none can change what the others see. Follows the transaction: what is taken back there is taken
 * back here, and what another process wrote is read anew. Knows transactions by their marks, and no rule.
 */
import type Database from "better-sqlite3";
import type { AnyObjectRecord, ObjectKind } from "#model/objects";
import { Shelf } from "#store/shelf";

export interface ObjectRow {
  readonly kind: string;
  readonly id: string;
  readonly key: string;
  readonly environment_id: string | null;
  readonly spec: string;
  readonly effective: string;
  readonly version: number;
  readonly claimed: number;
  readonly created_at_ms: number;
}

/** Rows parsed in one turn of the loop: about two milliseconds. */
const sliceRows = 200;

export class KeptObjects {
  readonly #rowsAfter: Database.Statement<[string, string, number], ObjectRow>;
  readonly #dataVersion: Database.Statement<[], number>;
  #shelves = new Map<ObjectKind, Promise<Shelf>>();
  /** What stood before each change of this transaction. */
  #undo: (() => void)[] = [];
  #savepoint = 0;
  #seenVersion: number | undefined;
  #parsed = 0;

  constructor(database: Database.Database) {
    this.#rowsAfter = database.prepare(
      "select * from objects where kind = ? and key > ? order by key limit ?",
    );
    this.#dataVersion = database.prepare<[], number>("pragma data_version").pluck();
  }

  /** Rows parsed so far, written ones included. */
  get parsed(): number {
    return this.#parsed;
  }

  /** First in each transaction. Another connection's commit makes SQLite count. */
  begin(): void {
    const version = this.#dataVersion.get();
    if (version !== this.#seenVersion) this.#shelves = new Map();
    this.#seenVersion = version;
  }

  /** The transaction is durable: nothing of it is taken back any more. */
  committed(): void {
    this.#undo = [];
  }

  savepoint(): void {
    this.#savepoint = this.#undo.length;
  }

  /** The transaction went back: to the savepoint, or to its begin. */
  takeBack(to: "savepoint" | "begin"): void {
    const undone = this.#undo.splice(to === "begin" ? 0 : this.#savepoint);
    for (const restore of undone.toReversed()) restore();
  }

  /** Read on first use, in slices: the rows of a large fleet would hold the loop. */
  shelf(kind: ObjectKind): Promise<Shelf> {
    const known = this.#shelves.get(kind);
    if (known !== undefined) return known;
    const shelves = this.#shelves;
    const loading = this.#load(kind);
    shelves.set(kind, loading);
    loading.catch(() => shelves.delete(kind));
    return loading;
  }

  /** After the statement that wrote or removed the row; the shelf was there before it. */
  async wrote(kind: ObjectKind, id: string, row: ObjectRow | undefined): Promise<void> {
    const shelf = await this.shelf(kind);
    // what is read is what the text says, not what the writer holds and may go on changing
    const before = shelf.replace(id, row && this.#parse(row));
    this.#undo.push(() => shelf.replace(id, before));
  }

  async #load(kind: ObjectKind): Promise<Shelf> {
    const shelf = new Shelf();
    let after = "";
    for (;;) {
      const rows = this.#rowsAfter.all(kind, after, sliceRows);
      for (const row of rows) shelf.replace(row.id, this.#parse(row));
      after = rows.at(-1)?.key ?? after;
      if (rows.length < sliceRows) return shelf;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #parse(row: ObjectRow): AnyObjectRecord {
    this.#parsed += 1;
    return frozen({
      kind: row.kind,
      id: row.id,
      key: row.key,
      environmentId: row.environment_id ?? undefined,
      spec: JSON.parse(row.spec) as unknown,
      effective: JSON.parse(row.effective) as unknown,
      version: row.version,
      claimed: row.claimed === 1,
      createdAtMs: row.created_at_ms,
    }) as AnyObjectRecord;
  }
}

/** All the way down: types alone stop no writer that casts. */
function frozen<T extends object>(value: T): T {
  for (const part of Object.values(value) as unknown[]) {
    if (typeof part === "object" && part !== null) frozen(part);
  }
  return Object.freeze(value);
}
