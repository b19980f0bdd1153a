/**
 * One libvirt host behind the `Host` port: joins connections, domains, volumes, channels and migrations, and turns
 * libvirt's events into ours. Holds no state of its own beyond what identifies the host; keeps no opinion.
 */
import type { Duplex } from "node:stream";
import { foldDisk, freezeDisk } from "#libvirt/disk-chain";
import { Domains } from "#libvirt/domains";
import { guestMemory } from "#libvirt/guest-memory";
import { openDestination, openSource } from "#libvirt/migration";
import * as moveChecks from "#libvirt/move-checks";
import { lifecycle } from "#libvirt/rpc/events";
import { type Dial, HostConnections } from "#libvirt/rpc/host-connections";
import { type Procedure, remote } from "#libvirt/rpc/procedures";
import { domainOf } from "#libvirt/rpc/references";
import type { FileDigests } from "#libvirt/volume-ranges";
import { PoolVolumes } from "#libvirt/volumes";
import type { ControlGroups } from "#libvirt/xml/cpu-weight";
import { isFault } from "#model/fault";
import type { HostId } from "#model/units";
import type { Clock } from "#ports/clock";
import { type DomainEvent, type Host, type HostObservation, topVolumeOf } from "#ports/host";

export interface LibvirtHostOptions {
  readonly id: HostId;
  /** Opens a stream to libvirtd's socket on the host; over SSH in production, a unix socket in tests. */
  readonly dial: Dial;
  /** Name of the directory pool that holds our volumes. */
  readonly pool: string;
  readonly clock: Clock;
  /**
   * What our machines are run by. Never decided by the presence of /dev/kvm: there are hosts where it exists and stock
   * kernels do not boot. Default "tcg", which always works.
   */
  readonly acceleration?: "kvm" | "tcg" | undefined;
  /** Default `qemu:///system`. */
  readonly uri?: string | undefined;
  /** Where serial consoles are logged; default `/var/log/libvirt/qemu`. */
  readonly logDirectory?: string | undefined;
  /** Channels of every machine that is started here, beside its own. */
  readonly channels?: readonly string[] | undefined;
  /** Takes digests on the host itself; absent: the bytes are read through libvirt for it. */
  readonly fileDigests?: FileDigests | undefined;
  /** What the host's kernel measures weights in, which libvirt does not say; default: v2. Asked when a weight is no default. */
  readonly controlGroups?: (() => Promise<ControlGroups>) | undefined;
}

const readTimeoutMs = 40_000;
/** QEMU is probed for all its machines and models. */
const probeTimeoutMs = 120_000;
/** VIR_DOMAIN_CHANNEL_FORCE: a stream of ours that hangs on a dead connection must not lock us out. */
const takeOver = 1;
/** All NUMA cells together. */
const allCells = -1;

export function createLibvirtHost(options: LibvirtHostOptions): Host {
  const connections = new HostConnections({
    hostId: options.id,
    dial: options.dial,
    uri: options.uri,
    clock: options.clock,
  });
  const volumes = new PoolVolumes(connections, options.pool, {
    clock: options.clock,
    fileDigests: options.fileDigests,
  });
  const domains = new Domains({
    hostId: options.id,
    connections,
    clock: options.clock,
    place: async () => ({
      acceleration: options.acceleration ?? "tcg",
      poolPath: await volumes.path(),
      logDirectory: options.logDirectory ?? "/var/log/libvirt/qemu",
      channels: options.channels,
    }),
    controlGroups: options.controlGroups ?? (async () => "v2"),
    newestLayer: async (volume) => {
      const top = topVolumeOf(volume);
      return (await volumes.find(top)) === undefined ? volume : top;
    },
  });
  const hasKvm = askForKvm(connections);
  const room = { connections, domains, clock: options.clock };
  const chain = { control: () => connections.kept("control"), volumes, clock: options.clock };
  const checks = {
    hostId: options.id,
    connections,
    volumes,
    clock: options.clock,
    acceleration: options.acceleration ?? ("tcg" as const),
    stateOf: async (id: string) => (await domains.find(id))?.state,
  };
  return {
    id: options.id,
    observe: () => observe(connections, volumes, hasKvm),
    listDomains: () => domains.list(),
    findDomain: (id) => domains.find(id),
    findDomainByName: (name) => domains.findByName(name),
    startDomain: (spec) => domains.start(spec),
    stopDomain: (id, how) => domains.stop(id, how),
    markDomain: (id, mark) => domains.mark(id, mark),
    resumeDomain: (id) => domains.resume(id),
    setMemory: (id, memoryMib) => domains.setMemory(id, memoryMib),
    guestMemory: async (id) => guestMemory(await connections.kept("control"), id),
    setVcpus: (id, vcpus) => domains.setVcpus(id, vcpus),
    setCpuPercent: (id, cpuPercent) => domains.setCpuPercent(id, cpuPercent),
    setCpuWeight: (id, cpuWeight) => domains.setCpuWeight(id, cpuWeight),
    attachNic: (id, nic) => domains.devices.attachNic(id, nic),
    detachNic: (id, mac) => domains.devices.detachNic(id, mac),
    growDisk: (id, disk) => domains.devices.growDisk(id, disk),
    freezeDisk: (id, disk) => freezeDisk(chain, id, disk),
    foldDisk: (id, disk) => foldDisk(chain, id, disk),
    volumes,
    describeForMove: (id) => moveChecks.describeForMove(checks, id),
    blockersOf: (candidate) => moveChecks.blockersOf(checks, candidate),
    guestCpu: () => moveChecks.guestCpu(checks),
    commonCpu: (models) => moveChecks.commonCpu(checks, models),
    dirtyMibPerS: (id, seconds) => moveChecks.dirtyMibPerS(checks, id, seconds),
    migrateFrom: (parameters) => openSource(room, parameters),
    migrateTo: (parameters) => openDestination(room, parameters),
    openChannel: (id, channel) =>
      openStream(connections, remote.domainOpenChannel, {
        domain: domainOf(id),
        name: channel,
        flags: takeOver,
      }),
    openConsole: (id) =>
      openStream(connections, remote.domainOpenConsole, {
        domain: domainOf(id),
        device: undefined, // the first one
        flags: takeOver,
      }),
    watch: (listener) => watch(connections, listener),
    close: () => connections.close(),
  };
}

async function observe(
  connections: HostConnections,
  volumes: PoolVolumes,
  hasKvm: () => Promise<boolean>,
): Promise<HostObservation> {
  const connection = await connections.kept("stats");
  const options = { timeoutMs: readTimeoutMs };
  const ask = { count: 0, cell: allCells, flags: 0 };
  const [{ version }, { cpus }, { count }, kvm, poolFreeBytes] = await Promise.all([
    connection.call(remote.getLibVersion, {}, options),
    connection.call(remote.nodeGetInfo, {}, options),
    connection.call(remote.nodeGetMemoryStats, ask, options),
    hasKvm(),
    volumes.freeBytes(),
  ]);
  const { stats } = await connection.call(remote.nodeGetMemoryStats, { ...ask, count }, options);
  // NODE_INFO's memory lies on some machines. Buffers and page cache are given back when machines need them.
  const freeKib = ["free", "buffers", "cached"].reduce(
    (sum, field) => sum + (stats.find((stat) => stat.field === field)?.value ?? 0),
    0,
  );
  return {
    libvirtVersion: versionText(version),
    cores: cpus,
    freeMemoryMib: Math.floor(freeKib / 1024),
    poolFreeBytes,
    accelerations: kvm ? ["kvm", "tcg"] : ["tcg"],
  };
}

/**
 * Whether libvirt would start a KVM guest; not whether it would run. Asked once: the first question after a start of
 * the daemon makes it probe QEMU, which takes seconds.
 */
function askForKvm(connections: HostConnections): () => Promise<boolean> {
  let answer: Promise<boolean> | undefined;
  const ask = async () => {
    const connection = await connections.kept("stats");
    const args = { emulator: undefined, arch: undefined, machine: undefined, virtType: "kvm" };
    try {
      await connection.call(
        remote.getDomainCapabilities,
        { ...args, flags: 0 },
        { timeoutMs: probeTimeoutMs },
      );
      return true;
    } catch (error) {
      if (isFault(error) && noKvmAnswers.has(error.code)) return false;
      throw error;
    }
  };
  return () => {
    answer ??= ask().catch((error: unknown) => {
      answer = undefined;
      throw error;
    });
    return answer;
  };
}

/** How daemons say that they have no KVM. */
const noKvmAnswers: ReadonlySet<string> = new Set([
  "libvirt.bad_argument",
  "libvirt.unsupported_config",
  "libvirt.unsupported",
  "libvirt.internal",
]);

/** 9000000 is 9.0.0. */
function versionText(version: number): string {
  return [version / 1_000_000, (version / 1_000) % 1_000, version % 1_000]
    .map(Math.floor)
    .join(".");
}

/** A connection of its own, because a stream that nobody reads holds up all that share one. */
async function openStream<Args>(
  connections: HostConnections,
  procedure: Procedure<Args, unknown>,
  args: Args,
): Promise<Duplex> {
  const connection = await connections.own("channel");
  try {
    const stream = await connection.openStream(procedure, args, { timeoutMs: readTimeoutMs });
    stream.once("close", () => void connection.close());
    return stream;
  } catch (error) {
    await connection.close();
    throw error;
  }
}

function watch(connections: HostConnections, listener: Parameters<Host["watch"]>[0]): () => void {
  return connections.watch({
    listeners: {
      lifecycle: (payload) => {
        const kind = lifecycleKinds.get(payload.event);
        if (kind === undefined) return;
        listener.onEvent({ kind, machineId: payload.domain.uuid, detail: payload.detail });
      },
      balloonChange: (payload) =>
        listener.onEvent({
          kind: "balloon",
          machineId: payload.domain.uuid,
          memoryMib: Math.round(payload.memoryKib / 1024),
        }),
    },
    resync: async () => listener.onRestored(),
    onLost: (reason) => listener.onLost(reason.message),
  });
}

type LifecycleKind = Exclude<DomainEvent["kind"], "balloon">;
const lifecycleKinds: ReadonlyMap<number, LifecycleKind> = new Map<number, LifecycleKind>([
  [lifecycle.defined, "defined"],
  [lifecycle.undefined, "undefined"],
  [lifecycle.started, "started"],
  [lifecycle.suspended, "suspended"],
  [lifecycle.resumed, "resumed"],
  [lifecycle.stopped, "stopped"],
  [lifecycle.crashed, "crashed"],
]);
