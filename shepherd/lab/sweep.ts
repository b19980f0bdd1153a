/**
 * Removes everything a lab of this name left, however it ended: processes, namespaces, links, cgroups, mounts, folders.
 * Finds it by three marks that only the lab sets: membership in namespaces or cgroups that carry its name, the pids
 * with start times in its state file, and its folder with the state file in it. Touches nothing else.
 */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { namespacePrefix } from "#lab/layout";
import { identify, killAll, must, type ProcessIdentity, processesInNamespaces } from "#lab/process";
import { readState, stateFile } from "#lab/state";
import { removeWires } from "#lab/wires";
import { Fault } from "#model/fault";

export interface SweepReport {
  readonly processes: number;
  readonly namespaces: number;
  readonly folder: boolean;
}

/** Idempotent. Fault `lab.cleanup_failed` names what stayed; `lab.state_directory_foreign` when the folder is not a lab's. */
export async function sweep(place: {
  readonly name: string;
  readonly stateDirectory: string;
}): Promise<SweepReport> {
  checkFolder(place.stateDirectory);
  const namespaces = namespacesOf(place.name);
  const cgroups = cgroupFolders(`drover-${place.name}`);
  let processes = 0;
  // A process may be forking while we look: look again until nobody is left.
  for (let round = 0; round < 20; round += 1) {
    const found = distinct([
      ...processesInNamespaces(namespaces.map((name) => `/run/netns/${name}`)),
      ...cgroups.flatMap(processesInCgroup),
      ...(readState(place.stateDirectory)?.processes ?? []).filter(
        (one) => identify(one.pid)?.startTicks === one.startTicks,
      ),
    ]);
    if (found.length === 0) break;
    processes += found.length;
    await killAll(found);
  }
  await removeWires({ namespaces, uplink: `dl-${place.name}` });
  for (const cgroup of cgroups) await removeCgroup(cgroup);
  const folder = existsSync(place.stateDirectory);
  if (folder) {
    await unmountBelow(place.stateDirectory);
    rmSync(place.stateDirectory, { recursive: true, force: true });
  }
  return { processes, namespaces: namespaces.length, folder };
}

/** Network namespaces that carry the lab's name. */
export function namespacesOf(name: string): readonly string[] {
  if (!existsSync("/run/netns")) return [];
  return readdirSync("/run/netns").filter((entry) => entry.startsWith(namespacePrefix(name)));
}

function checkFolder(folder: string): void {
  if (!existsSync(folder) || existsSync(stateFile(folder))) return;
  // a kill before the first whole record leaves at most its unfinished text
  const unfinished = basename(`${stateFile(folder)}.new`);
  if (readdirSync(folder).every((name) => name === unfinished)) return;
  throw new Fault("lab.state_directory_foreign", { folder });
}

function distinct(identities: readonly ProcessIdentity[]): readonly ProcessIdentity[] {
  return [...new Map(identities.map((one) => [one.pid, one])).values()].filter(
    (one) => one.pid !== process.pid,
  );
}

/** The folder of this name in every cgroup hierarchy that has one. */
function cgroupFolders(name: string): readonly string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => join(line.split(" ")[4] ?? "", name))
    .filter((folder) => existsSync(folder));
}

function processesInCgroup(folder: string): readonly ProcessIdentity[] {
  const own = readFileSync(join(folder, "cgroup.procs"), "utf8")
    .split("\n")
    .flatMap((line) => (line === "" ? [] : (identify(Number(line)) ?? [])));
  return [...own, ...childFolders(folder).flatMap(processesInCgroup)];
}

/** Children first; a cgroup whose last process has just died may stay busy for a moment. */
async function removeCgroup(folder: string): Promise<void> {
  for (const child of childFolders(folder)) await removeCgroup(child);
  for (let round = 0; ; round += 1) {
    try {
      rmdirSync(folder);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      if (round === 100)
        throw new Fault("lab.cleanup_failed", { problem: `cgroup ${folder}` }, { cause: error });
      await sleep(50);
    }
  }
}

function childFolders(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [join(folder, entry.name)] : [],
  );
}

async function unmountBelow(folder: string): Promise<void> {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${folder}/`));
  for (const point of points.toReversed()) await must(["umount", "-l", point]);
}
