/**
 * A copy of all that a shepherd must remember, taken while it runs, and putting it back. The copy is of one moment (SQLite's
 * own online backup), listed with digests. A restored journal takes an epoch above all it may have handed out since, so
 * that hosts which knew the lost one accept it. Knows files and the journal's tables, no host.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import Database from "better-sqlite3";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import { lockState } from "#store/state-lock";

export interface BackupManifest {
  readonly takenAtMs: Ms;
  readonly lineage: string;
  readonly epoch: number;
  /** Newest event in the copy. */
  readonly lastEvent: number;
  /** Path below the backup, bytes, SHA-256. */
  readonly files: readonly {
    readonly path: string;
    readonly bytes: number;
    readonly sha256: string;
  }[];
}

const journalFile = "journal.sqlite";
const manifestFile = "manifest.json";
/** Copied as they are; what is not there is left out. Images (`blobs/`) are named by their content. */
const plainFiles = ["tokens.json"];
const folders = ["blobs"];

/** The folder must not exist yet. Faults `backup.no_journal`, `backup.exists`. */
export async function backUp(
  stateDirectory: string,
  target: string,
  nowMs: Ms,
): Promise<BackupManifest> {
  const journal = join(stateDirectory, journalFile);
  if (!existsSync(journal)) throw new Fault("backup.no_journal", { directory: stateDirectory });
  if (existsSync(target)) throw new Fault("backup.exists", { directory: target });
  const unfinished = `${target}.unfinished`;
  mkdirSync(unfinished, { recursive: true, mode: 0o700 });
  const source = new Database(journal, { readonly: true });
  try {
    await source.backup(join(unfinished, journalFile));
  } finally {
    source.close();
  }
  const paths = [
    ...plainFiles.filter((file) => existsSync(join(stateDirectory, file))),
    ...folders.flatMap((folder) => filesIn(stateDirectory, folder)),
  ];
  for (const path of paths) {
    mkdirSync(join(unfinished, path, ".."), { recursive: true, mode: 0o700 });
    copyFileSync(join(stateDirectory, path), join(unfinished, path));
  }
  const copy = new Database(join(unfinished, journalFile), { readonly: true });
  const shepherd = copy.prepare("select epoch, lineage from shepherd").get() as {
    epoch: number;
    lineage: string;
  };
  const { last } = copy.prepare("select coalesce(max(seq), 0) as last from events").get() as {
    last: number;
  };
  copy.close();
  const files: BackupManifest["files"][number][] = [];
  for (const path of [journalFile, ...paths]) {
    const file = join(unfinished, path);
    files.push({ path, bytes: statSync(file).size, sha256: await digestOf(file) });
  }
  const manifest: BackupManifest = { takenAtMs: nowMs, ...shepherd, lastEvent: last, files };
  writeFileSync(join(unfinished, manifestFile), `${JSON.stringify(manifest, undefined, 2)}\n`, {
    flush: true,
  });
  // Whole or not at all: a folder of the right name is a whole backup.
  renameSync(unfinished, target);
  return manifest;
}

/**
 * Into a state directory without a journal; the shepherd must not run. Every digest is checked before anything is
 * written. Faults `backup.damaged`, `backup.journal_there`, `state.locked`.
 */
export async function restoreBackup(
  source: string,
  stateDirectory: string,
  nowMs: Ms,
): Promise<BackupManifest> {
  const manifest = readManifest(source);
  for (const { path, sha256 } of manifest.files) {
    const file = join(source, path);
    if (!existsSync(file) || (await digestOf(file)) !== sha256) {
      throw new Fault("backup.damaged", { directory: source, file: path });
    }
  }
  const unlock = lockState(stateDirectory);
  try {
    const journal = join(stateDirectory, journalFile);
    if (existsSync(journal)) throw new Fault("backup.journal_there", { file: journal });
    for (const { path } of manifest.files.filter((file) => file.path !== journalFile)) {
      mkdirSync(join(stateDirectory, path, ".."), { recursive: true, mode: 0o700 });
      copyFileSync(join(source, path), join(stateDirectory, path));
    }
    copyFileSync(join(source, journalFile), `${journal}.new`);
    raiseEpoch(`${journal}.new`, nowMs);
    renameSync(`${journal}.new`, journal);
  } finally {
    unlock();
  }
  return manifest;
}

/** Seconds of the clock: more than any count of starts. Hosts refuse epochs below the one they know. */
function raiseEpoch(file: string, nowMs: Ms): void {
  const database = new Database(file);
  database.pragma("journal_mode = DELETE");
  database
    .prepare("update shepherd set epoch = max(epoch, ?) where id = 1")
    .run(Math.floor(nowMs / 1000));
  database.close();
}

function readManifest(source: string): BackupManifest {
  try {
    return JSON.parse(readFileSync(join(source, manifestFile), "utf8")) as BackupManifest;
  } catch (cause) {
    throw new Fault("backup.damaged", { directory: source, file: manifestFile }, { cause });
  }
}

function filesIn(directory: string, folder: string): readonly string[] {
  if (!existsSync(join(directory, folder))) return [];
  return readdirSync(join(directory, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .toSorted();
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}
