/**
 * Copies the write-ahead log into the database file beside the commits instead of inside them: SQLite would do it in every
 * hundredth commit, which then takes milliseconds longer. A thread with a connection of its own, started when the log has
 * grown for the first time. It changes when pages move, never what is durable: a commit is in the log before it is told.
 */
import { statSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { errorCode } from "#model/error-code";
import type { Bytes, Ms } from "#model/units";

/** What SQLite itself would wait for: a thousand pages of 4 KiB. */
const worthBytes: Bytes = 4 << 20;
const pauseMs: Ms = 100;
/**
 * Pages that the log may grow to before a commit copies them itself, as it must when writes never pause: 16 MiB, of which
 * little is left to copy then.
 */
export const lastResortPages = 4_096;

export class WalCheckpoints {
  readonly #file: string;
  #worker: Worker | undefined;
  #isCopying = false;
  #lookedAtMs = 0;

  constructor(file: string) {
    this.#file = file;
  }

  /** After each commit; takes microseconds. */
  afterCommit(): void {
    const nowMs = performance.now();
    if (this.#isCopying || nowMs - this.#lookedAtMs < pauseMs) return;
    this.#lookedAtMs = nowMs;
    if (this.#logBytes() < worthBytes) return;
    this.#isCopying = true;
    this.#worker ??= this.#start();
    this.#worker.postMessage("copy");
  }

  /** Before the last connection closes: that one copies the rest and removes the log. */
  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#isCopying = true;
    if (worker === undefined) return;
    worker.ref();
    const ended = new Promise((resolve) => worker.once("exit", resolve));
    worker.postMessage("close");
    await ended;
  }

  #start(): Worker {
    const worker = new Worker(new URL("./wal-worker.ts", import.meta.url), {
      workerData: { file: this.#file },
    });
    worker.on("message", () => {
      this.#isCopying = false;
    });
    // without it SQLite copies inside of commits again; slower, and no less durable
    worker.on("error", () => undefined);
    worker.once("exit", () => {
      this.#isCopying = true;
    });
    worker.unref();
    return worker;
  }

  #logBytes(): Bytes {
    try {
      return statSync(`${this.#file}-wal`).size;
    } catch (error) {
      if (errorCode(error) === "ENOENT") return 0;
      throw error;
    }
  }
}
