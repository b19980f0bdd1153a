/**
 * A simulated libvirt host: life, live resize, volumes and channels of its guests, and its half of a migration.
 * Behaves as the real one was measured to; where the two disagree, this one is wrong. Knows no operation.
 */
import { Fault } from "#model/fault";
import type { HostId } from "#model/units";
import {
  type DomainSpec,
  type Host,
  type HostVolumes,
  type ObservedDomain,
  topVolumeOf,
} from "#ports/host";
import type { Caller } from "#simulated/caller";
import { openSimulatedConsole } from "#simulated/console";
import {
  type DomainData,
  type HostData,
  tapsOf,
  type VolumeData,
  withoutDeadPorts,
} from "#simulated/data";
import { fold, freeze } from "#simulated/disk-chain";
import { freshDomain, type Machinery } from "#simulated/machinery";
import { migrateFrom, migrateTo } from "#simulated/migration";
import { simulatedMoveChecks } from "#simulated/move-checks";
import { createRanges } from "#simulated/volume-ranges";

/** What an empty qcow2 takes. */
const emptyOverlayBytes = 200_704;
/** As often as our machines' balloons are asked. */
const guestSpeaksEveryMs = 2_000;
/** Domain metadata of an environment's machine always starts so. */
const version = "simulated 1.0";

export function createSimulatedHost(machinery: Machinery, caller: Caller, hostId: HostId): Host {
  const host = () => machinery.host(hostId);
  const call = <T>(name: string, work: () => T | Promise<T>) => caller.call(hostId, name, work);
  const find = (id: string) => host().domains[id];
  const need = (id: string, procedure: string): DomainData => {
    const domain = find(id);
    if (domain === undefined) {
      throw new Fault("libvirt.no_domain", { procedure, message: `no domain with id ${id}` });
    }
    return domain;
  };
  const needRunning = (id: string, procedure: string): DomainData => {
    const domain = need(id, procedure);
    if (domain.job !== "none") {
      // As measured: calls wait 30 s for the migration's job lock, then fail.
      throw new Fault("libvirt.timeout", { procedure, message: "a migration holds the domain" });
    }
    if (domain.state !== "running") {
      throw new Fault("libvirt.invalid_now", { procedure, message: `domain is ${domain.state}` });
    }
    return domain;
  };
  const observed = (domain: DomainData) => observe(machinery, domain);

  return {
    id: hostId,
    observe: () =>
      call("observe", () => ({
        libvirtVersion: version,
        cores: host().cores,
        freeMemoryMib: host().memoryMib - machinery.usedMemoryMib(host()),
        poolFreeBytes: poolFreeBytes(host()),
        accelerations: ["tcg" as const],
      })),
    listDomains: () => call("listDomains", () => Object.values(host().domains).map(observed)),
    findDomain: (id) =>
      call("findDomain", () => {
        const domain = find(id);
        return domain && observed(domain);
      }),
    findDomainByName: (name) =>
      call("findDomainByName", () => {
        const domain = Object.values(host().domains).find((each) => each.name === name);
        return domain && observed(domain);
      }),

    startDomain: (spec) => call("startDomain", () => start(machinery, caller, host(), spec)),
    stopDomain: (id) =>
      call("stopDomain", async () => {
        const domain = find(id);
        if (domain === undefined) return;
        await caller.pause(hostId, machinery.speeds.stopMs);
        machinery.removeDomain(host(), domain);
      }),
    markDomain: (id, mark) =>
      call("markDomain", () => {
        need(id, "markDomain").mark = mark;
        machinery.changed();
      }),
    resumeDomain: (id) =>
      call("resumeDomain", () => {
        const domain = need(id, "resumeDomain");
        if (domain.state === "running") return;
        if (!domain.state.startsWith("paused") || domain.job === "incoming") {
          const message = `domain is ${domain.state}`;
          throw new Fault("libvirt.invalid_now", { procedure: "resumeDomain", message });
        }
        machinery.setState(host(), domain, "running");
      }),

    setMemory: (id, memoryMib) =>
      call("setMemory", () => {
        const domain = needRunning(id, "setMemory");
        if (memoryMib > domain.memoryMaxMib) {
          const message = `${memoryMib} MiB is above the maximum of ${domain.memoryMaxMib} MiB`;
          throw new Fault("libvirt.bad_argument", { procedure: "setMemory", message });
        }
        domain.askedMib = memoryMib;
        machinery.setMemory(host(), domain, memoryMib);
      }),
    guestMemory: (id) =>
      call("guestMemory", () => {
        const domain = find(id);
        if (domain?.state !== "running") return undefined;
        const memoryMib = machinery.memoryOf(domain);
        const usableMib = Math.max(0, memoryMib - (domain.heldMib ?? 0));
        const nowMs = machinery.clock.nowMs();
        return { memoryMib, usableMib, saidAtMs: nowMs - (nowMs % guestSpeaksEveryMs) };
      }),
    setVcpus: (id, vcpus) =>
      call("setVcpus", () => {
        const domain = needRunning(id, "setVcpus");
        if (vcpus > domain.vcpusMax || vcpus < 1) {
          const message = `${vcpus} vCPUs are not within 1 and ${domain.vcpusMax}`;
          throw new Fault("libvirt.bad_argument", { procedure: "setVcpus", message });
        }
        domain.vcpus = vcpus;
        machinery.changed();
      }),
    setCpuPercent: (id, cpuPercent) =>
      call("setCpuPercent", () =>
        machinery.setCpuPercent(needRunning(id, "setCpuPercent"), cpuPercent),
      ),
    setCpuWeight: (id, cpuWeight) =>
      call("setCpuWeight", () => {
        needRunning(id, "setCpuWeight").cpuWeight = cpuWeight;
        machinery.changed();
      }),
    attachNic: (id, nic) =>
      call("attachNic", () => {
        const domain = needRunning(id, "attachNic");
        const { spec } = domain;
        if (spec === undefined || spec.nics.some(({ mac }) => mac === nic.mac)) return;
        if (!host().network.bridges.some(({ bridge }) => bridge === nic.bridge)) {
          const message = `Cannot get interface MTU on ${nic.bridge}`;
          throw new Fault("libvirt.operation_failed", { procedure: "attachNic", message });
        }
        domain.spec = { ...spec, nics: [...spec.nics, nic] };
        machinery.changed();
      }),
    detachNic: (id, mac) =>
      call("detachNic", () => {
        const domain = needRunning(id, "detachNic");
        const { spec } = domain;
        if (spec === undefined) return;
        domain.spec = { ...spec, nics: spec.nics.filter((nic) => nic.mac !== mac) };
        host().network = withoutDeadPorts(host().network, tapsOf(host()));
        machinery.changed();
      }),
    growDisk: (id, { volume, capacityBytes }) =>
      call("growDisk", () => {
        const { spec } = needRunning(id, "growDisk");
        const there = host().volumes[volume];
        if (there === undefined || spec?.dataVolumes?.includes(volume) !== true) {
          const message = `no disk of the domain is ${volume}`;
          throw new Fault("libvirt.bad_argument", { procedure: "growDisk", message });
        }
        grow(machinery, there, capacityBytes);
      }),

    freezeDisk: (id, layers) =>
      call("freezeDisk", () => freeze(machinery, host(), needRunning(id, "freezeDisk"), layers)),
    foldDisk: (id, layers) =>
      call("foldDisk", () => fold(machinery, host(), needRunning(id, "foldDisk"), layers)),
    volumes: createVolumes(machinery, caller, hostId),
    ...simulatedMoveChecks(machinery, caller, hostId),
    migrateFrom: (parameters) =>
      call("migrateFrom", () => migrateFrom({ machinery, caller, hostId, parameters })),
    migrateTo: (parameters) =>
      call("migrateTo", () => migrateTo({ machinery, caller, hostId, parameters })),
    openChannel: (id, channel) =>
      call("openChannel", () => {
        const domain = need(id, "openChannel");
        if (domain.state !== "running" || domain.job === "incoming") {
          const message = `domain is ${domain.state}`;
          throw new Fault("libvirt.invalid_now", { procedure: "openChannel", message });
        }
        const stream = machinery.port(id, channel).open();
        const end = caller.onCut(() => stream.destroy());
        stream.once("close", end);
        return stream;
      }),
    openConsole: (id) =>
      call("openConsole", () => {
        const domain = need(id, "openConsole");
        const stream = openSimulatedConsole(domain.name);
        stream.once(
          "close",
          caller.onCut(() => stream.destroy()),
        );
        return stream;
      }),
    watch({ onEvent }) {
      const end = machinery.listen(hostId, onEvent);
      caller.onCut(end);
      return end;
    },
    async close() {
      // Nothing is held: connections are of the whole shepherd here.
    },
  };
}

async function start(
  machinery: Machinery,
  caller: Caller,
  host: HostData,
  spec: DomainSpec,
): Promise<void> {
  const refuse = (message: string) =>
    new Fault("libvirt.operation_failed", { procedure: "startDomain", message });
  const namesake = Object.values(host.domains).find((domain) => domain.name === spec.name);
  if (namesake !== undefined && namesake.id !== spec.id) {
    throw new Fault("machine.name_taken", {
      host: host.id,
      name: spec.name,
      holder: namesake.id,
    });
  }
  if (host.domains[spec.id]?.state === "running") return;
  if (spec.memoryMib > host.memoryMib - machinery.usedMemoryMib(host)) {
    throw refuse("cannot set up guest memory: Cannot allocate memory");
  }
  const boot = [spec.boot?.kernelVolume, spec.boot?.initrdVolume].filter(
    (name) => name !== undefined,
  );
  for (const name of [spec.diskVolume, ...(spec.dataVolumes ?? []), ...boot]) {
    if (host.volumes[name] === undefined) throw refuse(`Cannot access storage file ${name}`);
  }
  const bridges = new Set(host.network.bridges.map((bridge) => bridge.bridge));
  for (const nic of spec.nics) {
    if (!bridges.has(nic.bridge)) throw refuse(`Cannot get interface MTU on ${nic.bridge}`);
  }
  await caller.pause(host.id, machinery.speeds.startMs);

  const volume = host.volumes[spec.diskVolume];
  if (volume === undefined || volume.partial !== undefined) {
    throw refuse(`Cannot access storage file ${spec.diskVolume}`);
  }
  // It ended while its disk was frozen: what it wrote last is there.
  const top = topVolumeOf(spec.diskVolume);
  const domain: DomainData = {
    ...freshDomain(machinery, spec),
    spec,
    ...(host.volumes[top] === undefined ? {} : { top }),
    vcpusMax: spec.vcpusMax,
    memoryMaxMib: spec.memoryMaxMib,
  };
  if (volume.content === "") volume.content = domain.bootId;
  // Each boot writes to its data volumes: an older copy of one is not the same.
  const dataContents: Record<string, string> = {};
  for (const name of spec.dataVolumes ?? []) {
    const data = host.volumes[name];
    if (data === undefined) throw refuse(`Cannot access storage file ${name}`);
    data.content = `${name} of ${domain.bootId}`;
    data.allocatedBytes = Math.max(data.allocatedBytes, machinery.speeds.bootWritesBytes);
    dataContents[name] = data.content;
  }
  volume.allocatedBytes = Math.max(volume.allocatedBytes, machinery.speeds.bootWritesBytes);
  machinery.addDomain(host, { ...domain, diskContent: volume.content, dataContents });
}

function createVolumes(machinery: Machinery, caller: Caller, hostId: HostId): HostVolumes {
  const host = () => machinery.host(hostId);
  const call = <T>(name: string, work: () => T | Promise<T>) =>
    caller.call(hostId, `volumes.${name}`, work);
  const full = (volume: string, neededBytes: number) =>
    new Fault("pool.full", {
      pool: "simulated",
      volume,
      needed_bytes: neededBytes,
      free_bytes: poolFreeBytes(host()),
    });
  const info = ({ name, capacityBytes, allocatedBytes, backing }: HostData["volumes"][string]) => ({
    name,
    capacityBytes,
    allocatedBytes,
    backing,
  });

  return {
    ...createRanges(machinery, caller, hostId),
    find: (name) =>
      call("find", () => {
        const volume = host().volumes[name];
        return volume === undefined || volume.partial !== undefined ? undefined : info(volume);
      }),
    list: () =>
      call("list", () =>
        Object.values(host().volumes)
          .filter(({ partial }) => partial === undefined)
          .map(info),
      ),
    upload: (request) =>
      call("upload", async () => {
        const { name, sizeBytes, capacityBytes } = request;
        if (host().volumes[name] !== undefined) {
          throw new Fault("libvirt.exists", { procedure: "volumes.upload", message: name });
        }
        if (sizeBytes > poolFreeBytes(host())) throw full(name, sizeBytes);
        let bytes = 0;
        for await (const chunk of request.open()) {
          bytes += (chunk as Buffer).length;
          request.onProgress?.(bytes);
        }
        if (bytes !== sizeBytes) {
          throw new Fault("volume.size_mismatch", {
            volume: name,
            size_bytes: sizeBytes,
            sent_bytes: bytes,
            stored_bytes: bytes,
          });
        }
        await caller.pause(hostId, (sizeBytes * 8) / (machinery.speeds.uploadMbps * 1000));
        host().volumes[name] = {
          name,
          capacityBytes,
          allocatedBytes: sizeBytes,
          backing: undefined,
          content: name,
        };
        machinery.changed();
      }),
    createOverlay: ({ name, backing, capacityBytes }) =>
      call("createOverlay", () => {
        if (host().volumes[name] !== undefined) {
          throw new Fault("libvirt.exists", { procedure: "volumes.createOverlay", message: name });
        }
        if (host().volumes[backing] === undefined) {
          const message = `no volume named ${backing}`;
          throw new Fault("libvirt.no_volume", { procedure: "volumes.createOverlay", message });
        }
        if (emptyOverlayBytes > poolFreeBytes(host())) {
          throw full(name, emptyOverlayBytes);
        }
        host().volumes[name] = {
          name,
          capacityBytes,
          allocatedBytes: emptyOverlayBytes,
          backing,
          content: "",
        };
        machinery.changed();
      }),
    createEmpty: ({ name, capacityBytes }) =>
      call("createEmpty", () => {
        if (host().volumes[name] !== undefined) {
          throw new Fault("libvirt.exists", { procedure: "volumes.createEmpty", message: name });
        }
        if (emptyOverlayBytes > poolFreeBytes(host())) {
          throw full(name, emptyOverlayBytes);
        }
        host().volumes[name] = {
          name,
          capacityBytes,
          allocatedBytes: emptyOverlayBytes,
          backing: undefined,
          content: "",
        };
        machinery.changed();
      }),
    grow: ({ name, capacityBytes }) =>
      call("grow", () => {
        const there = host().volumes[name];
        if (there === undefined) {
          const message = `no volume named ${name}`;
          throw new Fault("libvirt.no_volume", { procedure: "volumes.grow", message });
        }
        grow(machinery, there, capacityBytes);
      }),
    remove: (name) =>
      call("remove", () => {
        if (host().volumes[name] !== undefined) machinery.removeVolume(host(), name);
      }),
  };
}

function grow(machinery: Machinery, volume: VolumeData, capacityBytes: number): void {
  volume.capacityBytes = Math.max(volume.capacityBytes, capacityBytes);
  machinery.changed();
}

function observe(machinery: Machinery, domain: DomainData): ObservedDomain {
  const { spec } = domain;
  return {
    id: domain.id,
    name: domain.name,
    state: domain.state,
    ours:
      spec === undefined
        ? domain.mark
        : { environmentId: spec.environmentId, owner: spec.owner, epoch: spec.epoch },
    vcpus: domain.vcpus,
    vcpusMax: domain.vcpusMax,
    cpuPercent: domain.cpuPercent,
    ...(domain.cpuWeight === undefined ? {} : { cpuWeight: domain.cpuWeight }),
    memoryMib: machinery.memoryOf(domain),
    memoryTargetMib: domain.askedMib,
    memoryMaxMib: domain.memoryMaxMib,
    cpuTimeMs: machinery.cpuTimeOf(domain),
    macs: spec?.nics.map(({ mac }) => mac) ?? [],
    diskVolumes:
      spec === undefined ? [] : [domain.top ?? spec.diskVolume, ...(spec.dataVolumes ?? [])],
  };
}

function poolFreeBytes(host: HostData): number {
  const used = Object.values(host.volumes).reduce((sum, volume) => sum + volume.allocatedBytes, 0);
  return host.poolBytes - used;
}
