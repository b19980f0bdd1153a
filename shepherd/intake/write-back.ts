/**
 * Writes adaptations.json beside each configured stack: what the environment's machines were granted beyond their
 * baselines, so that a later synth can start a re-created machine there. Follows the events; on start it writes what
 * must stand there. It never touches the stack's own words, and a directory that is gone stops nobody.
 */
import { execFile } from "node:child_process";
import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Logger } from "pino";
import type { AdaptationRow } from "#api/contract";
import type { StackConfiguration } from "#configuration/configuration";
import { errorCode } from "#model/error-code";
import type { EventKind } from "#model/event";
import { type EnvironmentRecord, nameOfLink } from "#model/objects";
import type { Adaptation } from "#model/request";
import type { Journal, Store } from "#ports/store";

export const adaptationsFile = "adaptations.json";

/** Events after which the file may have to change. */
const telling: ReadonlySet<EventKind> = new Set([
  "adaptation.started",
  "adaptation.ended",
  "object.changed",
  "object.deleted",
  "operation.ended",
]);
const batchSize = 256;
/** A commit hook of the user's may take a while; a hanging one must not pile up. */
const gitTimeoutMs = 20_000;
const run = promisify(execFile);

export interface WriteBack {
  /** Resolves when every file is as it must be, or its trouble is logged. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export function createWriteBack(options: {
  readonly store: Store;
  readonly stacks: readonly StackConfiguration[];
  readonly log: Logger;
}): WriteBack {
  const { store, stacks, log } = options;
  const directories = Map.groupBy(stacks, (stack) => stack.directory);
  let seen = 0;
  let running: Promise<void> | undefined;
  let again = false;
  let unsubscribe = () => {};

  async function reconcile(): Promise<void> {
    for (const [directory, served] of directories) {
      try {
        const names = new Set(served.map((stack) => stack.environment));
        const rows = await store.read((journal) => adaptationRows(journal, names));
        if (!(await writeAdaptations(directory, rows))) continue;
        log.info({ directory, adaptations: rows.length }, "adaptations written");
        if (served.some((stack) => stack.gitCommit)) await commit(directory, rows.length);
      } catch (error) {
        log.warn(
          { err: error, directory },
          "adaptations were not written; the next change tries again",
        );
      }
    }
  }

  /** True when something happened since the last look that the files may show. */
  async function isNews(): Promise<boolean> {
    let news = false;
    for (;;) {
      const events = await store.read((journal) => journal.events.since(seen, batchSize));
      seen = events.at(-1)?.seq ?? seen;
      news ||= events.some((event) => telling.has(event.kind));
      if (events.length < batchSize) return news;
    }
  }

  async function follow(): Promise<void> {
    try {
      while (again) {
        again = false;
        if (await isNews()) await reconcile();
      }
    } catch (error) {
      log.error({ err: error }, "the journal could not be followed; the next commit tries again");
    } finally {
      running = undefined;
    }
  }

  return {
    async start() {
      if (directories.size === 0) return;
      seen = await store.read((journal) => journal.events.last());
      unsubscribe = store.onCommit(() => {
        again = true;
        running ??= follow();
      });
      await reconcile();
    },
    async stop() {
      unsubscribe();
      await running;
    },
  };
}

/** What the file holds for these environments; all of them when none is named. Sorted by environment and name. */
export async function adaptationRows(
  journal: Journal,
  environmentNames?: ReadonlySet<string>,
): Promise<readonly AdaptationRow[]> {
  const environments = (await journal.objects.list("environment")).filter(
    ({ spec }) => environmentNames === undefined || environmentNames.has(spec.name),
  );
  const rows: AdaptationRow[] = [];
  for (const environment of environments) {
    const adaptations = await journal.adaptations.list({ environmentId: environment.id });
    // One row a machine: its newest grant names it, its effective values hold what all of them granted.
    const newest = new Map<string, Adaptation>();
    for (const adaptation of adaptations) {
      const key = adaptation.linkId ?? adaptation.formerMachine ?? adaptation.machineId ?? "";
      const other = newest.get(key);
      if (other === undefined || other.createdAtMs <= adaptation.createdAtMs) {
        newest.set(key, adaptation);
      }
    }
    for (const adaptation of newest.values()) {
      const row = await rowOf(journal, environment, adaptation);
      if (row !== undefined) rows.push(row);
    }
  }
  return rows.toSorted((left, right) => compare(keyOf(left), keyOf(right)));
}

async function rowOf(
  journal: Journal,
  environment: EnvironmentRecord,
  adaptation: Adaptation,
): Promise<AdaptationRow | undefined> {
  const { machineId, linkId, formerMachine, values } = adaptation;
  const granted = {
    adaptation_id: adaptation.id,
    lease_until_ms: adaptation.leaseUntilMs ?? null,
    decision: adaptation.decisionId,
  };
  const name = environment.spec.name;
  if (linkId !== undefined) {
    const link = await journal.objects.get("link", linkId);
    if (link === undefined) return undefined;
    const rate = values.rateMbps ?? link.effective.rateMbps;
    return { environment: name, link: nameOfLink(link.spec), rate_mbps: rate, ...granted };
  }
  const machine =
    machineId === undefined ? undefined : await journal.objects.get("machine", machineId);
  if (machine !== undefined) {
    const { effective } = machine;
    return {
      environment: name,
      machine: machine.spec.name,
      vcpus: effective.vcpus,
      cpu_percent: effective.cpuPercent,
      memory_mib: effective.memoryMib,
      site: effective.siteId,
      ...granted,
    };
  }
  if (formerMachine === undefined) return undefined;
  const { vcpus, cpuPercent, memoryMib, siteId } = values;
  if (
    vcpus === undefined ||
    cpuPercent === undefined ||
    memoryMib === undefined ||
    siteId === undefined
  ) {
    return undefined;
  }
  return {
    environment: name,
    machine: formerMachine,
    vcpus,
    cpu_percent: cpuPercent,
    memory_mib: memoryMib,
    site: siteId,
    ...granted,
  };
}

/** One row a line, so that a diff shows one machine a line. */
export function renderAdaptations(rows: readonly AdaptationRow[]): string {
  if (rows.length === 0) return "[]\n";
  return `[\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n")}\n]\n`;
}

/** Replaces the file whole: a reader sees the old or the new one, after a power cut too. False when it was so already. */
export async function writeAdaptations(
  directory: string,
  rows: readonly AdaptationRow[],
): Promise<boolean> {
  const file = join(directory, adaptationsFile);
  const text = renderAdaptations(rows);
  if ((await readIfThere(file)) === text) return false;
  const temporary = join(directory, `.${adaptationsFile}.${process.pid}`);
  const written = await open(temporary, "w", 0o644);
  try {
    await written.writeFile(text);
    await written.sync();
    await written.close();
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  // The new name itself must survive too.
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
  return true;
}

async function commit(directory: string, count: number): Promise<void> {
  const git = (...args: string[]) =>
    run("git", ["-C", directory, ...args], { timeout: gitTimeoutMs });
  await git("add", "--", adaptationsFile);
  // Only our file, whatever else the user has staged.
  const message = `Record ${count} approved adaptation${count === 1 ? "" : "s"}`;
  await git("commit", "--quiet", "--message", message, "--only", "--", adaptationsFile);
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

function keyOf(row: AdaptationRow): string {
  return `${row.environment}/${row.machine ?? ""}/${row.link ?? ""}`;
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
