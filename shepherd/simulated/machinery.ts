/**
 * What the rooms of the simulation share: the data, the time, and the rules for changing one by the other. Every change
 * is judged (one writer per disk; a running guest has what it wrote) and, with a file, saved whole.
 */
import { renameSync, writeFileSync } from "node:fs";
import { assertNever } from "#model/assert-never";
import { Fault } from "#model/fault";
import type { Bytes, HostId, MachineId, Mbps, Mib, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { DomainEvent, DomainState } from "#ports/host";
import {
  type DomainData,
  type HostData,
  tapsOf,
  type WorldData,
  withoutDeadPorts,
} from "#simulated/data";
import { createGuestPort, type GuestPort } from "#simulated/guest-port";

/** How fast this world is; the defaults are the lab's order of magnitude. */
export interface Speeds {
  /** One call to a host and back. */
  readonly callMs: Ms;
  readonly startMs: Ms;
  readonly stopMs: Ms;
  readonly uploadMbps: Mbps;
  /** Memory and disk between two hosts. */
  readonly copyMbps: Mbps;
  readonly dirtyMibPerS: number;
  readonly balloonMibPerS: number;
  /** From the source's suspension to the destination's resume. */
  readonly switchMs: Ms;
  /** What a freshly booted guest has written into its own disk layer. */
  readonly bootWritesBytes: Bytes;
}
export const defaultSpeeds: Speeds = {
  callMs: 1,
  startMs: 800,
  stopMs: 300,
  uploadMbps: 4_000,
  copyMbps: 1_600,
  dirtyMibPerS: 8,
  balloonMibPerS: 512,
  switchMs: 60,
  bootWritesBytes: 16 * 2 ** 20,
};

/** As hosts and connections are on a bad day. */
export type Delivery = "true" | "lost" | "doubled" | "reordered";

export interface Machinery {
  readonly data: WorldData;
  readonly clock: Clock;
  readonly speeds: Speeds;
  host(id: HostId): HostData;
  memoryOf(domain: DomainData): Mib;
  cpuTimeOf(domain: DomainData): Ms;
  /** What guests have of the host's memory now. */
  usedMemoryMib(host: HostData): Mib;
  addDomain(host: HostData, domain: DomainData): void;
  setState(host: HostData, domain: DomainData, state: DomainState): void;
  setMemory(host: HostData, domain: DomainData, memoryMib: Mib): void;
  setCpuPercent(domain: DomainData, cpuPercent: number): void;
  removeDomain(host: HostData, domain: DomainData): void;
  removeVolume(host: HostData, name: string): void;
  port(machineId: MachineId, channel: string): GuestPort;
  emit(hostId: HostId, event: DomainEvent): void;
  /** How events reach whoever watches a host. */
  readonly events: { delivery: Delivery };
  listen(hostId: HostId, listener: (event: DomainEvent) => void): () => void;
  /** After every change: judges, saves. */
  changed(): void;
  nextBootId(): string;
}

export const guestChannel = "dev.drover.0";

/** A domain that has just booted. */
export function freshDomain(
  machinery: Machinery,
  size: {
    id: string;
    name: string;
    vcpus: number;
    memoryMib: Mib;
    cpuPercent?: number | undefined;
    cpuWeight?: number | undefined;
  },
): DomainData {
  const nowMs = machinery.clock.nowMs();
  return {
    id: size.id,
    name: size.name,
    spec: undefined,
    state: "running",
    vcpus: size.vcpus,
    vcpusMax: size.vcpus,
    cpuPercent: size.cpuPercent,
    ...(size.cpuWeight === undefined ? {} : { cpuWeight: size.cpuWeight }),
    memoryMaxMib: size.memoryMib,
    askedMib: size.memoryMib,
    memory: { fromMib: size.memoryMib, toMib: size.memoryMib, sinceMs: nowMs },
    cpuTime: { beforeMs: 0, sinceMs: nowMs },
    bootId: machinery.nextBootId(),
    bootedAtMs: nowMs,
    diskContent: "",
    job: "none",
  };
}

/**
 * What libvirt does with the moves of a client that went away: an incoming guest is thrown away; a source that still
 * copied goes on; a source that had handed everything over stays paused, because nobody knows whether the other runs.
 */
export function endMoves(machinery: Machinery, host: HostData): void {
  for (const domain of Object.values(host.domains)) {
    switch (domain.job) {
      case "incoming":
        machinery.removeDomain(host, domain);
        break;
      case "performing":
        domain.job = "none";
        machinery.setState(host, domain, "running");
        break;
      case "performed":
        domain.job = "none";
        break;
      case "none":
        break;
      default:
        assertNever(domain.job);
    }
  }
  machinery.changed();
}

export function createMachinery(world: {
  data: WorldData;
  speeds: Speeds;
  clock: Clock;
  /** Where the world is saved after each change. */
  file: string | undefined;
  boot: (domain: DomainData) => void;
}): Machinery {
  const { data, speeds, clock, file } = world;
  const ports = new Map<string, GuestPort>();
  const listeners = new Map<HostId, Set<(event: DomainEvent) => void>>();

  const host = (id: HostId): HostData => {
    const found = data.hosts[id];
    if (found === undefined) throw new Fault("host.unknown", { host: id });
    return found;
  };
  const memoryOf = ({ memory, state, heldMib = 0 }: DomainData): Mib => {
    if (state === "shut_off" || state === "crashed") return 0;
    const passedMs = clock.nowMs() - memory.sinceMs;
    const reach = Math.floor((passedMs * speeds.balloonMibPerS) / 1000);
    const distance = memory.toMib - memory.fromMib;
    const there = memory.fromMib + Math.sign(distance) * Math.min(Math.abs(distance), reach);
    return distance < 0 ? Math.max(there, Math.min(memory.fromMib, heldMib)) : there;
  };
  const cpuTimeOf = (domain: DomainData): Ms => {
    if (domain.state !== "running") return domain.cpuTime.beforeMs;
    const share = (domain.cpuPercent ?? 100 * domain.vcpus) / 100;
    const passedMs = clock.nowMs() - domain.cpuTime.sinceMs;
    return domain.cpuTime.beforeMs + Math.floor(passedMs * share);
  };
  const settleCpuTime = (domain: DomainData): void => {
    domain.cpuTime = { beforeMs: cpuTimeOf(domain), sinceMs: clock.nowMs() };
  };
  const events = { delivery: "true" as Delivery };
  let held: (() => void) | undefined;
  const tell = (hostId: HostId, event: DomainEvent): void => {
    for (const listener of listeners.get(hostId) ?? []) listener(event);
  };
  const emit: Machinery["emit"] = (hostId, event) => {
    switch (events.delivery) {
      case "true":
        tell(hostId, event);
        return;
      case "lost":
        return;
      case "doubled":
        tell(hostId, event);
        tell(hostId, event);
        return;
      case "reordered": {
        // Pairs come the other way round; a last odd one waits for the next.
        const earlier = held;
        held = earlier === undefined ? () => tell(hostId, event) : undefined;
        if (earlier === undefined) return;
        tell(hostId, event);
        earlier();
        return;
      }
      default:
        assertNever(events.delivery);
    }
  };
  const hangUp = (domain: DomainData): void => {
    for (const [key, port] of ports) if (key.startsWith(`${domain.id}/`)) port.hangUp();
  };
  const changed = (): void => {
    judge(data);
    if (file !== undefined) save(file, data);
  };

  return {
    data,
    clock,
    speeds,
    host,
    memoryOf,
    cpuTimeOf,
    emit,
    events,
    changed,
    usedMemoryMib: (at) =>
      Object.values(at.domains).reduce((sum, domain) => sum + memoryOf(domain), 0),
    addDomain(at, domain) {
      at.domains[domain.id] = domain;
      changed();
      if (domain.job === "incoming") return;
      emit(at.id, { kind: "started", machineId: domain.id, detail: 0 });
      if (domain.spec !== undefined) world.boot(domain);
    },
    setState(at, domain, state) {
      if (domain.state === state) return;
      settleCpuTime(domain);
      domain.state = state;
      if (state === "shut_off") {
        domain.memory = { ...domain.memory, fromMib: domain.memory.toMib };
        hangUp(domain);
      }
      changed();
      const kind = eventOf(state);
      if (kind !== undefined) emit(at.id, { kind, machineId: domain.id, detail: 0 });
    },
    setMemory(at, domain, memoryMib) {
      domain.memory = { fromMib: memoryOf(domain), toMib: memoryMib, sinceMs: clock.nowMs() };
      changed();
      const distance = Math.abs(domain.memory.toMib - domain.memory.fromMib);
      const settledAtMs = clock.nowMs() + Math.ceil((distance * 1000) / speeds.balloonMibPerS);
      const { memory } = domain;
      clock.at(settledAtMs, () => {
        // Only when nobody asked for another size meanwhile.
        if (domain.memory === memory) {
          emit(at.id, { kind: "balloon", machineId: domain.id, memoryMib: memoryOf(domain) });
        }
      });
    },
    setCpuPercent(domain, cpuPercent) {
      settleCpuTime(domain);
      domain.cpuPercent = cpuPercent;
      changed();
    },
    removeDomain(at, domain) {
      const wasIncoming = domain.job === "incoming";
      delete at.domains[domain.id];
      at.network = withoutDeadPorts(at.network, tapsOf(at));
      if (!wasIncoming) hangUp(domain);
      changed();
      if (!wasIncoming) emit(at.id, { kind: "stopped", machineId: domain.id, detail: 0 });
    },
    removeVolume(at, name) {
      const user = Object.values(at.domains).find(
        (domain) =>
          domain.spec?.diskVolume === name ||
          domain.top === name ||
          domain.spec?.dataVolumes?.includes(name) === true,
      );
      if (user !== undefined) {
        data.violations.push(`volume ${name} removed on ${at.id} under domain ${user.name}`);
      }
      delete at.volumes[name];
      changed();
    },
    port(machineId, channel) {
      const key = `${machineId}/${channel}`;
      const port = ports.get(key) ?? createGuestPort(channel);
      ports.set(key, port);
      return port;
    },
    listen(hostId, listener) {
      const set = listeners.get(hostId) ?? new Set();
      listeners.set(hostId, set.add(listener));
      return () => set.delete(listener);
    },
    nextBootId() {
      data.boots += 1;
      return `boot-${data.boots}`;
    },
  };
}

/** Judges the moment: one writer per disk, and a running guest has what it wrote. */
function judge(data: WorldData): void {
  const runs = new Map<string, HostId>();
  for (const host of Object.values(data.hosts)) {
    for (const domain of Object.values(host.domains)) {
      if (domain.state !== "running" || domain.spec === undefined) continue;
      const other = runs.get(domain.id);
      if (other !== undefined) report(data, `${domain.name} runs on ${other} and ${host.id}`);
      runs.set(domain.id, host.id);
      // A frozen disk is a chain: what was frozen must be whole, and what is on it too.
      const chain = [domain.spec.diskVolume, ...(domain.top === undefined ? [] : [domain.top])];
      for (const name of chain) {
        const volume = host.volumes[name];
        if (volume?.content !== domain.diskContent || volume.partial !== undefined) {
          report(data, `${domain.name} runs on ${host.id} without its disk ${name}`);
        }
      }
      for (const [name, content] of Object.entries(domain.dataContents ?? {})) {
        const volume = host.volumes[name];
        if (volume?.content !== content || volume.partial !== undefined) {
          report(data, `${domain.name} runs on ${host.id} without what is on its volume ${name}`);
        }
      }
    }
  }
}

function report(data: WorldData, violation: string): void {
  if (!data.violations.includes(violation)) data.violations.push(violation);
}

function eventOf(state: DomainState): "resumed" | "suspended" | "stopped" | "crashed" | undefined {
  switch (state) {
    case "running":
      return "resumed";
    case "paused":
    case "paused_migrating":
      return "suspended";
    case "shut_off":
      return "stopped";
    case "crashed":
      return "crashed";
    case "other":
      return undefined;
    default:
      return assertNever(state);
  }
}

/** Whole or not at all; a kill of the process at any instruction leaves the last state. */
function save(file: string, data: WorldData): void {
  writeFileSync(`${file}.new`, JSON.stringify(data));
  renameSync(`${file}.new`, file);
}
