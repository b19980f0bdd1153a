/**
 * Hosts, guests and networks in memory: the ports' other implementation, in any clock's time, with faults on demand.
 * The world outlives the shepherd: connections are cut, guests run on, half-done moves end as libvirt ends them.
 * It also judges: `violations` names every moment in which one disk had two writers or a guest lost its disk.
 */
import { readFileSync } from "node:fs";
import type { HostId, MachineId, Mib, Ms } from "#model/units";
import type { HostClaim } from "#ports/claim";
import type { Clock } from "#ports/clock";
import type { Hosts } from "#ports/host";
import { createCaller } from "#simulated/caller";
import {
  type DomainData,
  emptyWorld,
  type SimulatedHostOptions,
  type WorldData,
} from "#simulated/data";
import { createFaults, type Faults } from "#simulated/faults";
import type { GuestPort } from "#simulated/guest-port";
import { createSimulatedHost } from "#simulated/host";
import {
  createMachinery,
  type Delivery,
  defaultSpeeds,
  endMoves,
  freshDomain,
  guestChannel,
  type Speeds,
} from "#simulated/machinery";
import { createSimulatedNetwork } from "#simulated/network";

export interface WorldOptions {
  readonly clock: Clock;
  readonly hosts: readonly SimulatedHostOptions[];
  readonly speeds?: Partial<Speeds>;
  /** Keeps the world over the end of its process; hosts of the file that are not in `hosts` are forgotten. */
  readonly file?: string;
}

/** One shepherd's access. */
export interface Connection {
  readonly hosts: Hosts;
  /** The shepherd died: no call of it is ever answered, its half-done moves end as libvirt ends them. */
  cut(): void;
}

export interface World {
  /** With a claim, hosts of a newer shepherd or of another installation refuse every call. */
  connect(claim?: HostClaim): Connection;
  readonly faults: Faults;
  readonly violations: readonly string[];
  /** Everything, for assertions; never change it. */
  readonly data: Readonly<WorldData>;
  readonly clock: Clock;
  /** The guest's end of its channel; undefined when it runs nowhere. */
  guestPort(machineId: MachineId, channel?: string): GuestPort | undefined;
  /** Called for each guest that boots, with its `dev.drover.0`; and at once for those that run. */
  onGuest(listener: (guest: { id: MachineId; name: string; port: GuestPort }) => void): () => void;
  /** A host more, empty; the same again is no change. */
  addHost(host: SimulatedHostOptions): void;
  removeHost(hostId: HostId): void;
  /** How domain events arrive from now on. */
  setEvents(delivery: Delivery): void;
  /** Cuts a host off from the shepherd, or joins it again. Its guests run on. */
  setReachable(hostId: HostId, reachable: boolean): void;
  /** Power failure: every guest there is gone, disks stay. Leaves the host reachable. */
  powerCycle(hostId: HostId): void;
  /** Behind the shepherd's back. */
  setMemoryBehind(hostId: HostId, id: string, memoryMib: Mib): void;
  /** From now on the guest holds this much and gives no more of it up; 0: nothing. */
  holdMemory(hostId: HostId, id: string, heldMib: Mib): void;
  startForeign(
    hostId: HostId,
    foreign: { id: string; name: string; vcpus: number; memoryMib: Mib; cpuPercent?: number },
  ): void;
  stopForeign(hostId: HostId, id: string): void;
  /** By domain name, foreign ones too. */
  idOf(name: string): string | undefined;
  /** What the guest itself sees; undefined when it runs nowhere. */
  insideGuest(machineId: MachineId): GuestView | undefined;
}

export interface GuestView {
  readonly hostId: HostId;
  readonly bootId: string;
  readonly uptimeMs: Ms;
  readonly vcpus: number;
  readonly cpuPercent: number | undefined;
  readonly memoryMib: Mib;
  readonly diskContent: string;
}

export function createWorld(options: WorldOptions): World {
  const speeds = { ...defaultSpeeds, ...options.speeds };
  const data = load(options);
  const faults = createFaults();
  const guestListeners = new Set<Parameters<World["onGuest"]>[0]>();
  const reachability = new Set<(hostId: HostId) => void>();
  const machinery = createMachinery({
    data,
    speeds,
    clock: options.clock,
    file: options.file,
    boot: tellOfGuest,
  });
  for (const host of Object.values(data.hosts)) endMoves(machinery, host);

  function tellOfGuest(domain: DomainData): void {
    const port = machinery.port(domain.id, guestChannel);
    for (const listener of guestListeners) listener({ id: domain.id, name: domain.name, port });
  }
  const findRunning = (machineId: MachineId) => {
    const found = Object.values(data.hosts).flatMap((host) => {
      const domain = host.domains[machineId];
      return domain !== undefined && domain.job !== "incoming" ? [{ host, domain }] : [];
    });
    // Between switch and clean-up the source still has an empty shell.
    return found.find(({ domain }) => domain.state === "running") ?? found[0];
  };
  const domainOf = (hostId: HostId, id: string): DomainData => {
    const domain = machinery.host(hostId).domains[id];
    if (domain === undefined) throw new Error(`no domain ${id} on ${hostId}`);
    return domain;
  };

  return {
    faults,
    data,
    violations: data.violations,
    clock: options.clock,
    connect(claim) {
      const caller = createCaller(machinery, faults, reachability, claim);
      const hosts: Hosts = {
        get: (id) => createSimulatedHost(machinery, caller, machinery.host(id).id),
        network: (id) => createSimulatedNetwork(machinery, caller, machinery.host(id).id),
      };
      return {
        hosts,
        cut() {
          caller.cut();
          for (const host of Object.values(data.hosts)) endMoves(machinery, host);
        },
      };
    },
    guestPort: (machineId, channel = guestChannel) =>
      findRunning(machineId) && machinery.port(machineId, channel),
    onGuest(listener) {
      guestListeners.add(listener);
      for (const host of Object.values(data.hosts)) {
        for (const domain of Object.values(host.domains)) {
          if (domain.spec === undefined || domain.job === "incoming") continue;
          const port = machinery.port(domain.id, guestChannel);
          listener({ id: domain.id, name: domain.name, port });
        }
      }
      return () => guestListeners.delete(listener);
    },
    addHost(host) {
      const fresh = emptyWorld([host]).hosts[host.id];
      if (fresh !== undefined) data.hosts[host.id] ??= fresh;
      machinery.changed();
    },
    removeHost(hostId) {
      delete data.hosts[hostId];
      machinery.changed();
    },
    setEvents(delivery) {
      machinery.events.delivery = delivery;
    },
    setReachable(hostId, reachable) {
      const host = machinery.host(hostId);
      host.reachable = reachable;
      if (!reachable) endMoves(machinery, host);
      for (const listener of reachability) listener(hostId);
      machinery.changed();
    },
    powerCycle(hostId) {
      const host = machinery.host(hostId);
      for (const domain of Object.values(host.domains)) {
        // What was still arriving is defined nowhere: nothing of it is left after the boot.
        if (domain.job === "incoming") {
          machinery.removeDomain(host, domain);
          continue;
        }
        domain.job = "none";
        machinery.setState(host, domain, "shut_off");
      }
      host.network = { hostId, bridges: [] };
      machinery.changed();
    },
    setMemoryBehind(hostId, id, memoryMib) {
      machinery.setMemory(machinery.host(hostId), domainOf(hostId, id), memoryMib);
    },
    holdMemory(hostId, id, heldMib) {
      const domain = domainOf(hostId, id);
      // What it has given up until now it has given up.
      const fromMib = machinery.memoryOf(domain);
      domain.memory = { ...domain.memory, fromMib, sinceMs: options.clock.nowMs() };
      domain.heldMib = heldMib;
      machinery.changed();
    },
    startForeign(hostId, { id, name, vcpus, memoryMib, cpuPercent }) {
      machinery.addDomain(machinery.host(hostId), {
        ...freshDomain(machinery, { id, name, vcpus, memoryMib, cpuPercent }),
        spec: undefined,
      });
    },
    stopForeign(hostId, id) {
      machinery.removeDomain(machinery.host(hostId), domainOf(hostId, id));
    },
    idOf: (name) =>
      Object.values(data.hosts)
        .flatMap((host) => Object.values(host.domains))
        .find((domain) => domain.name === name)?.id,
    insideGuest(machineId) {
      const running = findRunning(machineId);
      if (running === undefined) return undefined;
      const { host, domain } = running;
      return {
        hostId: host.id,
        bootId: domain.bootId,
        uptimeMs: options.clock.nowMs() - domain.bootedAtMs,
        vcpus: domain.vcpus,
        cpuPercent: domain.cpuPercent,
        memoryMib: machinery.memoryOf(domain),
        diskContent: domain.diskContent,
      };
    },
  };
}

function load({ file, hosts }: WorldOptions): WorldData {
  const fresh = emptyWorld(hosts);
  if (file === undefined) return fresh;
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return fresh;
    throw error;
  }
  const saved = JSON.parse(text) as WorldData;
  for (const host of hosts) {
    const before = saved.hosts[host.id];
    if (before !== undefined) fresh.hosts[host.id] = { ...before, ...host };
  }
  fresh.violations.push(...saved.violations);
  fresh.boots = saved.boots;
  return fresh;
}
