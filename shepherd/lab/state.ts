/**
 * The lab's own record: its layout, and each process with its start time; written before and after every start, so
 * that a killed `up` leaves a file that tells what it began. Also the lock that lets one command at a time change a lab.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostProcesses } from "#lab/host";
import type { LabLayout } from "#lab/layout";
import { identify, isAlive, type ProcessIdentity } from "#lab/process";
import { Fault } from "#model/fault";

export interface LabState {
  readonly layout: LabLayout;
  /** True once everything answered; false in the record of an `up` that did not end. */
  readonly complete: boolean;
  readonly hosts: Readonly<Record<string, Partial<HostProcesses>>>;
  /** All of them, for the sweep, and those that were adopted. */
  readonly processes: readonly ProcessIdentity[];
  readonly imageDirectory: string;
}

export function stateFile(stateDirectory: string): string {
  return join(stateDirectory, "lab.json");
}

/** Undefined when there is no lab in the folder. */
export function readState(stateDirectory: string): LabState | undefined {
  const file = stateFile(stateDirectory);
  if (!existsSync(file)) return undefined;
  return JSON.parse(readFileSync(file, "utf8")) as LabState;
}

/** Atomic, so that a kill between two writes leaves a whole file. */
export function writeState(
  state: Omit<LabState, "processes">,
  adopted: readonly ProcessIdentity[] = [],
): void {
  const own = Object.values(state.hosts).flatMap((host) => Object.values(host));
  const processes = [...own, ...adopted];
  mkdirSync(state.layout.stateDirectory, { recursive: true, mode: 0o755 });
  const file = stateFile(state.layout.stateDirectory);
  writeFileSync(`${file}.new`, `${JSON.stringify({ ...state, processes }, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}

/** Runs work while no other command changes this lab. Fault `lab.busy` names the other's pid; a dead holder is no holder. */
export async function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  const file = `/run/drover-${name}.lock`;
  const me = identify(process.pid);
  for (let round = 0; ; round += 1) {
    try {
      writeFileSync(file, JSON.stringify(me), { flag: "wx" });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = readHolder(file);
    if ((holder !== undefined && isAlive(holder)) || round === 3)
      throw new Fault("lab.busy", { name, pid: holder?.pid });
    rmSync(file, { force: true });
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

function readHolder(file: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ProcessIdentity;
  } catch {
    return undefined; // gone, or cut by a kill: nobody holds it
  }
}
