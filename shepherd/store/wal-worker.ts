/**
 * The thread of wal-checkpoints.ts: one connection, one statement. PASSIVE waits for nobody and stops nobody; what it
 * could not copy, the next one does. Loaded as a file of its own, from source.
 */
import { parentPort, workerData } from "node:worker_threads";
import Database from "better-sqlite3";

const { file } = workerData as { readonly file: string };
const database = new Database(file, { fileMustExist: true });

parentPort?.on("message", (order: "copy" | "close") => {
  if (order === "close") {
    database.close();
    parentPort?.close();
    return;
  }
  database.pragma("wal_checkpoint(PASSIVE)");
  parentPort?.postMessage("copied");
});
