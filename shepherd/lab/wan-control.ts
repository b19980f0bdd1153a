/**
 * Raises a lab's WAN and changes it while it is up: picks what can shape (this kernel's netem, else the router guest),
 * leads the hosts' traffic through it, and remembers what lies between the sites. Migration traffic, tunnels and LANs
 * of guests all cross it; only the shepherd's own connections do not, so that a cut WAN leaves it able to act.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hostsOf, type LabLayout, type LabPlace, labPlace } from "#lab/layout";
import { must, type ProcessIdentity, run } from "#lab/process";
import { readState, withLock } from "#lab/state";
import {
  completePaths,
  describeWan,
  needsSingleFrames,
  type WanDriver,
  type WanPath,
  wanQdiscs,
} from "#lab/wan";
import { inRouter, routerCards, startRouter } from "#lab/wan-router";
import { inNamespace } from "#lab/wires";
import { Fault } from "#model/fault";

export interface Wan {
  /** Which of the two really shapes: part of every measured result. */
  readonly driver: WanDriver;
  readonly paths: readonly WanPath[];
}

/** Called by `up`, before any daemon runs. `driver` undefined: what this machine can do. */
export async function raiseWan(request: {
  readonly layout: LabLayout;
  readonly asked: readonly WanPath[];
  readonly imageDirectory: string;
  readonly driver?: WanDriver | undefined;
}): Promise<{ readonly wan: Wan; readonly router: ProcessIdentity | undefined }> {
  const { layout, imageDirectory } = request;
  const paths = completePaths(layout, request.asked);
  const driver = request.driver ?? ((await hasNetem(layout)) ? "kernel" : "router-guest");
  const wan = { driver, paths };
  const router = driver === "kernel" ? undefined : await startRouter(layout, imageDirectory);
  await shape(layout, wan, true);
  if (router !== undefined) await leadThroughRouter(layout);
  writeWan(layout.stateDirectory, wan);
  return { wan, router };
}

/** What lies between the sites now; undefined in a lab that was raised without a WAN. Fault `lab.not_up`. */
export function readWan(options: LabPlace = {}): Wan | undefined {
  const { name, stateDirectory } = labPlace(options);
  if (readState(stateDirectory) === undefined) throw new Fault("lab.not_up", { name });
  const file = wanFile(stateDirectory);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Wan) : undefined;
}

/**
 * Changes the named pairs while everything runs: frames that are on their way arrive. `change` gets each pair as it is.
 * Faults `lab.not_up`, `lab.wan_invalid` (a pair there is not, or a lab without a WAN).
 */
export async function changeWan(
  options: LabPlace,
  pair: readonly [string, string],
  change: (path: WanPath) => WanPath,
): Promise<Wan> {
  const { name, stateDirectory } = labPlace(options);
  return await withLock(`${name}-wan`, async () => {
    const before = readWan(options);
    const layout = readState(stateDirectory)?.layout;
    const wanted = pair.toSorted().join(":");
    const refuse = (problem: string): Fault =>
      new Fault("lab.wan_invalid", { text: wanted, problem });
    if (before === undefined || layout === undefined)
      throw refuse("this lab was raised without --wan");
    if (!before.paths.some((path) => path.sites.join(":") === wanted))
      throw refuse(`there is no such pair; there are ${before.paths.map(describeWan).join(" ")}`);
    const paths = before.paths.map((path) =>
      path.sites.join(":") === wanted ? change(path) : path,
    );
    const wan = { ...before, paths };
    await shape(layout, wan, false);
    writeWan(stateDirectory, wan);
    return wan;
  });
}

async function shape(layout: LabLayout, { driver, paths }: Wan, first: boolean): Promise<void> {
  const cards = routerCards(layout);
  for (const [index, site] of layout.sites.entries()) {
    const device = driver === "kernel" ? site.bridge : (cards[index]?.device ?? "");
    const lines = wanQdiscs({ device, site, layout, paths, first });
    const input = lines.map((line) => `${line}\n`).join("");
    if (driver === "kernel")
      await must([...inNamespace(layout.routerNamespace), "tc", "-batch", "-"], { input });
    else await inRouter(layout.stateDirectory, `/usr/bin/tc -batch - <<'END'\n${input}END\n`);
  }
  const segments = needsSingleFrames(paths) ? 1 : 65_535;
  for (const host of hostsOf(layout))
    await must([
      ...inNamespace(host.namespace),
      "ip",
      "link",
      "set",
      "dev",
      "uplink",
      "gso_max_segs",
      String(segments),
    ]);
}

/** Hosts reach other sites over the guest; everything else (the shepherd) goes on over the router's namespace. */
async function leadThroughRouter(layout: LabLayout): Promise<void> {
  for (const site of layout.sites) {
    const input = layout.sites
      .filter((other) => other.id !== site.id)
      .map((other) => `route replace ${other.cidr} via ${site.routerGuest}\n`)
      .join("");
    for (const host of site.hosts)
      await must([...inNamespace(host.namespace), "ip", "-batch", "-"], { input });
  }
}

async function hasNetem(layout: LabLayout): Promise<boolean> {
  const inside = inNamespace(layout.routerNamespace);
  const tried = await run([...inside, ..."tc qdisc add dev lo root netem delay 1ms".split(" ")]);
  if (tried.code !== 0) return false;
  await must([...inside, ..."tc qdisc delete dev lo root".split(" ")]);
  return true;
}

function wanFile(stateDirectory: string): string {
  return join(stateDirectory, "wan.json");
}

function writeWan(stateDirectory: string, wan: Wan): void {
  const file = wanFile(stateDirectory);
  writeFileSync(`${file}.new`, `${JSON.stringify(wan, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
