/**
 * The order of transactions on one SQLite connection. Writes that wait together are one commit, each in a savepoint of its
 * own: one fsync for all of them, and nobody hears of their own before that commit is durable. Reads see only what is
 * committed. Knows no table and no statement.
 */
import { AsyncResource } from "node:async_hooks";
import type Database from "better-sqlite3";
import type { Ms } from "#model/units";

/** Writes of one commit, and how long they may take together before it: the first of them waits for the last. */
const maxTogether = 64;
const standardTogetherMs: Ms = 10;

interface Waiting {
  readonly work: () => Promise<unknown>;
  readonly resolve: (result: never) => void;
  readonly reject: (error: unknown) => void;
}

export class Transactions {
  readonly #database: Database.Database;
  readonly #options: TransactionsOptions;
  readonly #say: (command: Command) => void;
  readonly #writes: Waiting[] = [];
  readonly #reads: Waiting[] = [];
  #isWorking = false;
  #working: Promise<void> = Promise.resolve();

  constructor(database: Database.Database, options: TransactionsOptions) {
    this.#database = database;
    this.#options = options;
    const prepared = new Map(
      commands.map((command) => [command, database.prepare(command)] as const),
    );
    this.#say = (command) => prepared.get(command)?.run();
  }

  /** Resolves when it is durable. What it throws is thrown again, and nothing of it is left. */
  write<T>(work: () => Promise<T>): Promise<T> {
    return this.#enqueue(this.#writes, work);
  }

  /** One consistent moment, after every write that was asked for before it. */
  read<T>(work: () => Promise<T>): Promise<T> {
    return this.#enqueue(this.#reads, work);
  }

  /** What was asked for is still done. */
  async idle(): Promise<void> {
    while (this.#isWorking) await this.#working;
  }

  #enqueue<T>(queue: Waiting[], work: () => Promise<T>): Promise<T> {
    // Whoever happens to work the queue off must not lend the others its context. AsyncLocalStorage.bind would do as well,
    // but makes a prototype of each work, and all that this has seen then lives until a full collection.
    const asker = new AsyncResource("transaction");
    const bound = (): Promise<T> => asker.runInAsyncScope(work);
    const mine = new Promise<T>((resolve, reject) => queue.push({ work: bound, resolve, reject }));
    if (!this.#isWorking) this.#working = this.#workOff();
    return mine;
  }

  async #workOff(): Promise<void> {
    this.#isWorking = true;
    while (this.#writes.length + this.#reads.length > 0) {
      if (this.#writes.length > 0) {
        // what arrived in the same turn of the loop shares the commit
        if (this.#options.gather) await new Promise((resolve) => setImmediate(resolve));
        await this.#writeTogether();
      }
      for (const read of this.#reads.splice(0)) await this.#readOne(read);
    }
    // in the same breath as the look at the queues: what comes later starts it again
    this.#isWorking = false;
  }

  async #writeTogether(): Promise<void> {
    const together: { readonly one: Waiting; tell: () => void }[] = [];
    const untilMs = performance.now() + (this.#options.togetherMs ?? standardTogetherMs);
    try {
      do {
        const one = this.#writes.shift();
        if (one === undefined) break;
        const mine: { readonly one: Waiting; tell: () => void } = { one, tell: () => undefined };
        together.push(mine);
        if (together.length === 1) {
          this.#say("begin immediate");
          this.#options.onBegin();
        }
        mine.tell = await this.#writeOne(one);
      } while (together.length < maxTogether && performance.now() < untilMs);
      this.#say("commit");
    } catch (error) {
      // not begun, fenced, or not durable: nothing of any of them is there
      if (this.#database.inTransaction) this.#say("rollback");
      this.#options.onUndo?.("begin");
      for (const { one } of together) one.reject(error);
      return;
    }
    this.#options.onCommit();
    for (const { tell } of together) tell();
  }

  /** How it ended, to be told after the commit: even a refusal may rest on what others wrote in it. */
  async #writeOne({ work, resolve, reject }: Waiting): Promise<() => void> {
    this.#say("savepoint one");
    this.#options.onSavepoint?.();
    try {
      const result = await work();
      this.#say("release one");
      return () => resolve(result as never);
    } catch (error) {
      // a full disk can make SQLite give up the whole transaction by itself
      if (!this.#database.inTransaction) throw error;
      this.#say("rollback to one");
      this.#options.onUndo?.("savepoint");
      this.#say("release one");
      return () => reject(error);
    }
  }

  async #readOne({ work, resolve, reject }: Waiting): Promise<void> {
    try {
      this.#say("begin");
      this.#options.onRead?.();
      resolve((await work()) as never);
    } catch (error) {
      reject(error);
    } finally {
      if (this.#database.inTransaction) this.#say("commit");
    }
  }
}

export interface TransactionsOptions {
  /** Wait for the end of the loop's turn before a commit. Worth it when a commit is durable, and so costs an fsync. */
  readonly gather: boolean;
  /** After which a commit is closed, also when more is waiting. */
  readonly togetherMs?: Ms | undefined;
  /** First in every commit, holding the write lock; a throw refuses it. */
  readonly onBegin: () => void;
  readonly onCommit: () => void;
  /** At the start of each write of a commit. */
  readonly onSavepoint?: () => void;
  /** What was written since then is gone: by one write that failed, or by all of the commit. */
  readonly onUndo?: (to: "savepoint" | "begin") => void;
  /** First in every read. */
  readonly onRead?: () => void;
}

const commands = [
  "begin",
  "begin immediate",
  "commit",
  "rollback",
  "savepoint one",
  "release one",
  "rollback to one",
] as const;
type Command = (typeof commands)[number];
