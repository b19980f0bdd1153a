/**
 * Snapshots of the newest decisions, one packed file each, so that a decision can be made again elsewhere. Written after
 * the decision is in force and beside its work: one that could not be kept is told and lost, nothing waits for it.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { errorCode } from "#model/error-code";
import { type DecisionSnapshot, type Recorder, withoutSecretTexts } from "#policy/snapshot";

/** Decisions wait here for the disk; a burst beyond it is not kept. */
const queueLimit = 32;
/** Facts of larger fleets take longer to write than to decide on: 2,000 machines are about 3 MB of text. */
const maxMachines = 2_000;

const pack = promisify(gzip);
const unpack = promisify(gunzip);

export interface Snapshots {
  readonly record: Recorder;
  /** By the id of any of its decisions; undefined when it is not kept (any more). */
  read(decisionId: string): Promise<DecisionSnapshot | undefined>;
  /** Resolves when what was recorded so far is on the disk. */
  settled(): Promise<void>;
}

export interface SnapshotsLog {
  warn(data: object, message: string): void;
}

/** Keeps the newest `keep` of them; 0: none. */
export function openSnapshots(options: {
  readonly folder: string;
  readonly keep: number;
  readonly log: SnapshotsLog;
}): Snapshots {
  const { folder, keep, log } = options;
  const queue: DecisionSnapshot[] = [];
  let writing: Promise<void> | undefined;
  let lost = 0;

  const drain = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      try {
        await write(folder, next);
        await removeOld(folder, keep);
      } catch (error) {
        log.warn({ err: error, request: next.request.id }, "a decision's snapshot was not kept");
      }
    }
    writing = undefined;
  };
  return {
    record(snapshot) {
      if (keep === 0) return;
      const machines = snapshot.looks[0]?.machines.length ?? 0;
      if (queue.length >= queueLimit || machines > maxMachines) {
        lost += 1;
        if (lost === 1 || lost % 1_000 === 0) {
          log.warn({ lost, machines }, "snapshots are not kept: too many at once, or too large");
        }
        return;
      }
      queue.push(snapshot);
      writing ??= new Promise<void>((resolve) => setImmediate(resolve)).then(drain);
    },
    async read(decisionId) {
      const file = (await names(folder)).find((name) => idsOf(name).includes(decisionId));
      if (file === undefined) return undefined;
      // Written below, whole or not at all.
      return JSON.parse(
        (await unpack(await readFile(join(folder, file)))).toString(),
      ) as DecisionSnapshot;
    },
    async settled() {
      while (writing !== undefined) await writing;
    },
  };
}

/** Ids begin with the time, so that names sort by age. */
async function write(folder: string, snapshot: DecisionSnapshot): Promise<void> {
  const ids = snapshot.decisions.map(({ id }) => id).join("+");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const unfinished = join(folder, `${randomUUID()}.unfinished`);
  await writeFile(unfinished, await pack(JSON.stringify(withoutSecretTexts(snapshot))), {
    mode: 0o600,
  });
  await rename(unfinished, join(folder, `${ids}${suffix}`));
}

async function removeOld(folder: string, keep: number): Promise<void> {
  const old = (await names(folder)).slice(0, -keep);
  for (const name of old) await rm(join(folder, name), { force: true });
}

const suffix = ".json.gz";

async function names(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith(suffix)).toSorted();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}

function idsOf(name: string): readonly string[] {
  return name.slice(0, -suffix.length).split("+");
}
