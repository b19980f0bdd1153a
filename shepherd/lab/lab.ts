/**
 * Raises and removes a lab: sites on one Linux machine with real libvirtd, sshd and QEMU per host, sharing nothing.
 * `up` begins by sweeping whatever an earlier lab of the same name left, killed or not.
 */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { configurationOf } from "#lab/configuration";
import { type HostProcesses, prepareHost, runningOf, startAnchor, startDaemons } from "#lab/host";
import { buildImage, defaultCacheDirectory } from "#lab/image";
import {
  hostsOf,
  type LabLayout,
  type LabPlace,
  type LabSite,
  labPlace,
  layOut,
  networksFor,
} from "#lab/layout";
import { identify, isAlive, must, type ProcessIdentity } from "#lab/process";
import { fetchQemu } from "#lab/qemu";
import { type LabState, readState, withLock, writeState } from "#lab/state";
import { type SweepReport, sweep } from "#lab/sweep";
import { describeWan, type WanDriver, type WanPath } from "#lab/wan";
import { raiseWan } from "#lab/wan-control";
import { foreignRoute, layWires } from "#lab/wires";
import { Fault } from "#model/fault";

export interface UpOptions extends LabPlace {
  /** Default: north with two small hosts, south with one large. */
  readonly sites?: readonly LabSite[] | undefined;
  readonly stacks?:
    | readonly { readonly environment: string; readonly directory: string }[]
    | undefined;
  readonly socket?: string | undefined;
  readonly listen?: string | undefined;
  /** What lies between pairs of sites; absent = no WAN, the sites are joined by wires. An empty list may be changed later. */
  readonly wan?: readonly WanPath[] | undefined;
  /** What shapes it. Default: this kernel's netem where there is one, else the router guest. */
  readonly wanDriver?: WanDriver | undefined;
  /** A line for every thing that is being done. */
  readonly onProgress?: ((line: string) => void) | undefined;
}

export interface Lab {
  readonly layout: LabLayout;
  /** The drover.yaml that the shepherd starts with. */
  readonly configurationFile: string;
  /** Holds base.qcow2, kernel, initrd and image.json. */
  readonly imageDirectory: string;
}

export interface HostStatus {
  readonly id: string;
  readonly site: string;
  readonly address: string;
  readonly running: Readonly<Record<keyof HostProcesses, boolean>>;
}
export interface LabStatus {
  readonly name: string;
  readonly stateDirectory: string;
  /** up: everything runs; degraded: some of it; down: nothing is there. */
  readonly state: "up" | "degraded" | "down";
  readonly configurationFile: string;
  readonly imageDirectory: string | undefined;
  readonly hosts: readonly HostStatus[];
}

export function configurationFile(stateDirectory: string): string {
  return join(stateDirectory, "drover.yaml");
}

/** Sweeps, then builds the image (cached), wires, hosts; resolves when every host answers. Faults `lab.*`. */
export async function up(options: UpOptions = {}): Promise<Lab> {
  const say = options.onProgress ?? (() => undefined);
  const place = labPlace(options);
  layOut(options, options.sites); // what does not fit is told before anything is done
  return await withLock(place.name, async () => {
    const swept = await sweep(place);
    if (swept.processes > 0 || swept.namespaces > 0 || swept.folder) say(describeSweep(swept));
    const imageDirectory = await buildImage({ onProgress: say });
    const qemu = await fetchQemu({ cacheDirectory: defaultCacheDirectory, onProgress: say });
    const layout = await layOutFree(options);
    const hosts: Record<string, Partial<HostProcesses>> = {};
    const adopted: ProcessIdentity[] = [];
    const record = (complete: boolean) =>
      writeState({ layout, complete, hosts, imageDirectory }, adopted);
    record(false); // before anything exists: the mark by which a later sweep knows the folder
    mkdirSync(join(layout.stateDirectory, "ssh"), { mode: 0o700 });
    await must([
      "ssh-keygen",
      "-q",
      "-t",
      "ed25519",
      "-N",
      "",
      "-C",
      `drover-${layout.name}`,
      "-f",
      join(layout.stateDirectory, "ssh/id_ed25519"),
    ]);
    say(
      `wires: ${layout.sites.map((site) => `${site.id} ${site.cidr}`).join(", ")}, joined by a router`,
    );
    await layWires(layout);
    if (options.wan !== undefined) {
      const { wan, router } = await raiseWan({
        layout,
        asked: options.wan,
        imageDirectory,
        driver: options.wanDriver,
      });
      if (router !== undefined) adopted.push(router);
      record(false);
      say(`WAN by ${wan.driver}: ${wan.paths.map(describeWan).join(" ")}`);
    }
    const hostKeys = new Map<string, string>();
    await Promise.all(
      hostsOf(layout).map(async (host) => {
        hostKeys.set(host.id, await prepareHost(layout, host));
        const anchor = await startAnchor(host, qemu);
        hosts[host.id] = { anchor };
        record(false);
        hosts[host.id] = await startDaemons(host, anchor);
        record(false);
        say(`host ${host.id} at ${host.address}: libvirtd and sshd answer`);
      }),
    );
    writeFileSync(
      join(layout.stateDirectory, "ssh/known_hosts"),
      hostsOf(layout)
        .map((host) => `${host.address} ${hostKeys.get(host.id)}\n`)
        .join(""),
    );
    const file = configurationFile(layout.stateDirectory);
    writeFileSync(
      file,
      configurationOf({
        layout,
        hostKeys,
        stacks: options.stacks,
        socket: options.socket,
        listen: options.listen,
      }),
      { mode: 0o600 },
    );
    symlinkSync(imageDirectory, join(layout.stateDirectory, "image"));
    record(true);
    say(`configuration: ${file}`);
    return { layout, configurationFile: file, imageDirectory };
  });
}

/** In the first of its networks that the machine does not route elsewhere. Fault `lab.address_taken`: none is free. */
async function layOutFree(options: UpOptions): Promise<LabLayout> {
  const taken: string[] = [];
  for (const network of networksFor(labPlace(options).name)) {
    const layout = layOut(options, options.sites, network);
    const route = await foreignRoute(layout);
    if (route === undefined) return layout;
    taken.push(route);
  }
  throw new Fault("lab.address_taken", { count: taken.length, route: taken[0] });
}

/** Removes the lab of this name, whatever state it is in. */
export async function down(
  options: LabPlace & {
    /** Also removes the kernel and the images kept in the cache; the next `up` builds them again. */
    readonly cache?: boolean | undefined;
    readonly onProgress?: ((line: string) => void) | undefined;
  } = {},
): Promise<SweepReport> {
  const place = labPlace(options);
  return await withLock(place.name, async () => {
    const swept = await sweep(place);
    options.onProgress?.(describeSweep(swept));
    if (options.cache === true) {
      rmSync(defaultCacheDirectory, { recursive: true, force: true });
      options.onProgress?.(`removed ${defaultCacheDirectory}`);
    }
    return swept;
  });
}

/** What of the lab runs now; asks processes, not the record alone. */
export function status(options: LabPlace = {}): LabStatus {
  const place = labPlace(options);
  const state = readState(place.stateDirectory);
  const hosts =
    state === undefined ? [] : hostsOf(state.layout).map((host) => hostStatus(state, host));
  const healthy = (host: HostStatus) => Object.values(host.running).every(Boolean);
  return {
    ...place,
    state:
      state === undefined ? "down" : state.complete && hosts.every(healthy) ? "up" : "degraded",
    configurationFile: configurationFile(place.stateDirectory),
    imageDirectory: state?.imageDirectory,
    hosts,
  };
}

/** The lab that is up. Fault `lab.not_up` otherwise. */
export function openLab(options: LabPlace = {}): LabState {
  const place = labPlace(options);
  const state = readState(place.stateDirectory);
  if (state === undefined || !state.complete) throw new Fault("lab.not_up", { name: place.name });
  return state;
}

/**
 * Remembers a process that works on this lab and has to end with it, such as the shepherd of a demo that may be killed:
 * the next sweep ends it too, if it still is that process. Fault `lab.not_up`.
 */
export function adoptProcess(options: LabPlace & { readonly pid: number }): void {
  const state = openLab(options);
  const identity = identify(options.pid);
  const own = new Set(
    Object.values(state.hosts).flatMap((host) => Object.values(host).map((one) => one.pid)),
  );
  const before = state.processes.filter((one) => !own.has(one.pid) && isAlive(one));
  writeState(state, identity === undefined ? before : [...before, identity]);
}

function hostStatus(
  state: LabState,
  host: LabLayout["sites"][number]["hosts"][number],
): HostStatus {
  return {
    id: host.id,
    site: host.siteId,
    address: host.address,
    running: runningOf(state.hosts[host.id] ?? {}),
  };
}

function describeSweep(swept: SweepReport): string {
  if (swept.processes === 0 && swept.namespaces === 0 && !swept.folder)
    return "nothing of this lab was there";
  return `removed what was left: ${swept.processes} processes, ${swept.namespaces} namespaces${swept.folder ? ", the folder" : ""}`;
}
