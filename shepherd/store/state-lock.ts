/**
 * One shepherd a state directory: an exclusive SQLite transaction that the kernel ends with its process, so that a
 * kill -9 leaves no stale lock. The pid beside it is only for the message.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { errorCode } from "#model/error-code";
import { Fault } from "#model/fault";

/** Creates the directory when needed; returns how to give it back. Fault `state.locked` names the process that has it. */
export function lockState(directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const pidFile = join(directory, "shepherd.pid");
  const database = new Database(join(directory, "shepherd.lock"), { timeout: 0 });
  try {
    database.exec("begin exclusive");
  } catch (cause) {
    database.close();
    if (errorCode(cause) !== "SQLITE_BUSY") throw cause;
    throw new Fault("state.locked", { directory, pid: readPid(pidFile) }, { cause });
  }
  writeFileSync(pidFile, `${process.pid}\n`);
  return () => {
    database.close();
  };
}

function readPid(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return "unknown";
    throw error;
  }
}
