/**
 * What libvirt says before a live move: how the machine is at its source, and what of the destination would keep it from
 * coming (version, machine type, processor, pool). Also the processor that unlike hosts have in common. Reads only;
 * decides nothing: the operation gathers what all checks found and tells it at once.
 * Facts: libvirt.md 4.3 and the part on CPU models.
 */
import { basename, dirname } from "node:path";
import type { RpcConnection } from "#libvirt/rpc/connection";
import type { HostConnections } from "#libvirt/rpc/host-connections";
import { remote } from "#libvirt/rpc/procedures";
import { domainOf } from "#libvirt/rpc/references";
import { numberIn } from "#libvirt/rpc/schema";
import type { PoolVolumes } from "#libvirt/volumes";
import { all, at, readXml, writeXml, type XmlElement } from "#libvirt/xml/element";
import { readDomain } from "#libvirt/xml/read-domain";
import { plainCpu } from "#libvirt/xml/write-domain";
import type { Blocker } from "#model/blocker";
import { Fault, type FaultData, isFault, toFaultData } from "#model/fault";
import type { HostId, MachineId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { DomainState, MoveCandidate } from "#ports/host";

export interface MoveChecksRoom {
  readonly hostId: HostId;
  readonly connections: HostConnections;
  readonly volumes: PoolVolumes;
  readonly clock: Clock;
  readonly acceleration: "kvm" | "tcg";
  readonly stateOf: (id: MachineId) => Promise<DomainState | undefined>;
}

/** The daemon probes QEMU when it is asked for the first time. */
const probeTimeoutMs = 120_000;
const readTimeoutMs = 40_000;
/** VIR_DOMAIN_XML_MIGRATABLE: as it would be sent. */
const xmlMigratable = 8;
/** VIR_CONNECT_BASELINE_CPU_MIGRATABLE. */
const baselineMigratable = 2;
/** VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE: the error names the features that lack. */
const failIncompatible = 1;
const incompatible = 0;
/** VIR_DOMAIN_STATS_DIRTYRATE. */
const dirtyRateStats = 512;
/** VIR_DOMAIN_DIRTYRATE_MEASURED. */
const rateMeasured = 2;
/** After the time asked for: libvirt says `measuring` until QEMU has reckoned. */
const rateGraceMs: Ms = 3_000;
const ratePollMs: Ms = 200;

export async function describeForMove(
  room: MoveChecksRoom,
  id: MachineId,
): Promise<MoveCandidate | undefined> {
  const connection = await room.connections.kept("stats");
  const state = await room.stateOf(id);
  if (state === undefined) return undefined;
  const [{ xml }, { version }, poolPath] = await Promise.all([
    connection.call(
      remote.domainGetXmlDesc,
      { domain: domainOf(id), flags: xmlMigratable },
      { timeoutMs: readTimeoutMs },
    ),
    connection.call(remote.getVersion, {}, { timeoutMs: readTimeoutMs }),
    room.volumes.path(),
  ]);
  const domain = readDomain(xml);
  const root = readXml(xml);
  const cpu = at(root, "cpu");
  const written = all(at(root, "devices"), "disk")
    .filter((disk) => at(disk, "readonly") === undefined)
    .map((disk) => at(disk, "source")?.attributes["file"] ?? "");
  const inPool = (file: string) => dirname(file) === poolPath;
  return {
    machineId: id,
    name: domain.name,
    state,
    memoryMib: domain.memoryMib,
    acceleration: domain.acceleration,
    machineType: domain.machineType,
    hypervisorVersion: version,
    ...(cpu === undefined ? {} : { cpu: writeXml(cpu) }),
    volumes: written.filter(inPool).map((file) => basename(file)),
    strangeDisks: written.filter((file) => !inPool(file)),
  };
}

export async function blockersOf(
  room: MoveChecksRoom,
  candidate: MoveCandidate,
): Promise<readonly Blocker[]> {
  const connection = await room.connections.kept("stats");
  const found = await Promise.all([
    blockersOfVersion(room, connection, candidate),
    blockersOfMachineType(room, connection, candidate),
    blockersOfCpu(room, connection, candidate),
    blockersOfPool(room),
  ]);
  return found.flat();
}

export async function guestCpu(room: MoveChecksRoom): Promise<string> {
  if (room.acceleration === "tcg") return writeXml(plainCpu());
  const connection = await room.connections.kept("stats");
  const { xml } = await connection.call(
    remote.getDomainCapabilities,
    { ...hypervisor(room.acceleration), flags: 0 },
    { timeoutMs: probeTimeoutMs },
  );
  const modes = all(at(readXml(xml), "cpu"), "mode");
  const model = modes.find((mode) => mode.attributes["name"] === "host-model");
  if (model === undefined || model.attributes["supported"] !== "yes") {
    throw new Fault("libvirt.protocol", { problem: "the host names no processor for guests" });
  }
  return writeXml({ ...model, name: "cpu", attributes: {} });
}

export async function commonCpu(room: MoveChecksRoom, models: readonly string[]): Promise<string> {
  const [first] = models;
  if (room.acceleration === "tcg" && first !== undefined && models.length === 1) return first;
  const connection = await room.connections.kept("stats");
  const { cpu } = await connection.call(
    remote.baselineHypervisorCpu,
    { ...hypervisor(room.acceleration), cpus: [...models], flags: baselineMigratable },
    { timeoutMs: probeTimeoutMs },
  );
  // Exactly this and not less: a guest that started with more could not come everywhere.
  const root = readXml(cpu);
  return writeXml({ ...root, attributes: { mode: "custom", match: "exact", check: "partial" } });
}

export async function dirtyMibPerS(
  room: MoveChecksRoom,
  id: MachineId,
  seconds: number,
): Promise<number | undefined> {
  const connection = await room.connections.kept("stats");
  const domain = domainOf(id);
  try {
    await connection.call(
      remote.domainStartDirtyRateCalc,
      { domain, seconds, flags: 0 },
      { timeoutMs: readTimeoutMs },
    );
    const untilMs = room.clock.nowMs() + seconds * 1_000 + rateGraceMs;
    while (room.clock.nowMs() < untilMs) {
      await room.clock.sleep(ratePollMs);
      const { records } = await connection.call(
        remote.getAllDomainStats,
        { domains: [domain], stats: dirtyRateStats, flags: 0 },
        { timeoutMs: readTimeoutMs },
      );
      const figures = records[0]?.parameters ?? [];
      if (numberIn(figures, "dirtyrate.calc_status") === rateMeasured)
        return numberIn(figures, "dirtyrate.megabytes_per_second");
    }
    return undefined;
  } catch (error) {
    // A machine that is being moved or has gone, or a hypervisor that cannot: nothing is known, and nothing is wrong.
    if (isFault(error)) return undefined;
    throw error;
  }
}

/** An older hypervisor may not understand what a newer one sends, whatever the machine type says. */
async function blockersOfVersion(
  room: MoveChecksRoom,
  connection: RpcConnection,
  { hypervisorVersion }: MoveCandidate,
): Promise<readonly Blocker[]> {
  const { version } = await connection.call(remote.getVersion, {}, { timeoutMs: readTimeoutMs });
  if (majorOf(version) >= majorOf(hypervisorVersion)) return [];
  return [
    {
      check: "version",
      problem: `${room.hostId} runs QEMU ${versionText(version)}, older than the ${versionText(hypervisorVersion)} that the machine runs on`,
      fix: `bring QEMU on ${room.hostId} to ${versionText(hypervisorVersion)}, or choose a host that has it`,
    },
  ];
}

async function blockersOfMachineType(
  room: MoveChecksRoom,
  connection: RpcConnection,
  { machineType, acceleration }: MoveCandidate,
): Promise<readonly Blocker[]> {
  const guests = all(await capabilitiesOf(connection), "guest").flatMap((guest) => {
    const arch = at(guest, "arch");
    return arch?.attributes["name"] === "x86_64" ? [arch] : [];
  });
  const blockers: Blocker[] = [];
  const types = new Set(guests.flatMap((arch) => machineTypesOf(arch)));
  if (!types.has(machineType)) {
    blockers.push({
      check: "machine_type",
      problem: `${room.hostId} has no machine type ${machineType}`,
      fix: `bring QEMU on ${room.hostId} to a version that has it, or start the machine anew with a type that both have`,
    });
  }
  const wanted = acceleration === "kvm" ? "kvm" : "qemu";
  const can = guests.some((arch) =>
    all(arch, "domain").some((domain) => domain.attributes["type"] === wanted),
  );
  if (!can) {
    blockers.push({
      check: "machine_type",
      problem: `${room.hostId} cannot run guests of type ${wanted}`,
      fix: `choose a host with ${wanted === "kvm" ? "hardware virtualization" : "QEMU's translator"}`,
    });
  }
  return blockers;
}

/**
 * The daemon takes two seconds to tell them on a small host (measured). They last for a connection, as the daemon and
 * its probes do, and for a version of QEMU, which may be exchanged under a running daemon.
 */
const knownCapabilities = new WeakMap<
  RpcConnection,
  { readonly version: number; readonly root: Promise<XmlElement> }
>();

async function capabilitiesOf(connection: RpcConnection): Promise<XmlElement> {
  const { version } = await connection.call(remote.getVersion, {}, { timeoutMs: readTimeoutMs });
  const known = knownCapabilities.get(connection);
  if (known?.version === version) return known.root;
  const asked = connection.call(remote.getCapabilities, {}, { timeoutMs: probeTimeoutMs });
  const root = asked.then(({ xml }) => readXml(xml));
  knownCapabilities.set(connection, { version, root });
  try {
    return await root;
  } catch (error) {
    // The next one asks again.
    knownCapabilities.delete(connection);
    throw error;
  }
}

function machineTypesOf(arch: XmlElement): readonly string[] {
  const named = [arch, ...all(arch, "domain")].flatMap((parent) => all(parent, "machine"));
  return named.flatMap((machine) => [machine.text, machine.attributes["canonical"] ?? ""]);
}

async function blockersOfCpu(
  room: MoveChecksRoom,
  connection: RpcConnection,
  { cpu, acceleration, machineType }: MoveCandidate,
): Promise<readonly Blocker[]> {
  // The translator gives every host the same plain processor.
  if (cpu === undefined || acceleration !== "kvm") return [];
  const blocker = (problem: string): Blocker => ({
    check: "cpu",
    problem: `the processor of ${room.hostId} lacks what the guest was started with: ${problem}`,
    fix: "start the machine anew: it then gets the processor that all hosts of its sites have in common",
  });
  try {
    const { result } = await connection.call(
      remote.compareHypervisorCpu,
      { ...hypervisor("kvm"), machine: machineType, cpu, flags: failIncompatible },
      { timeoutMs: probeTimeoutMs },
    );
    return result === incompatible ? [blocker("features")] : [];
  } catch (error) {
    if (!isFault(error)) throw error;
    const { code, message }: FaultData = toFaultData(error);
    // A machine type that is not there is told by its own check.
    if (code === "libvirt.bad_argument" && message.includes("machine")) return [];
    if (!code.startsWith("libvirt.")) throw error;
    return [blocker(message)];
  }
}

async function blockersOfPool({ hostId, volumes }: MoveChecksRoom): Promise<readonly Blocker[]> {
  try {
    await volumes.freeBytes();
    return [];
  } catch (error) {
    if (!isFault(error) || error.code === "libvirt.disconnected") throw error;
    return [
      {
        check: "pool",
        problem: `the storage pool of ${hostId} does not answer: ${toFaultData(error).message}`,
        fix: `start the pool on ${hostId} (virsh pool-start), or mend its folder`,
      },
    ];
  }
}

function hypervisor(acceleration: "kvm" | "tcg") {
  return {
    emulator: undefined,
    arch: "x86_64",
    machine: undefined,
    virtType: acceleration === "kvm" ? "kvm" : "qemu",
  };
}

function majorOf(version: number): number {
  return Math.floor(version / 1_000_000);
}

/** 7002022 is 7.2.22. */
function versionText(version: number): string {
  return [version / 1_000_000, (version / 1_000) % 1_000, version % 1_000]
    .map(Math.floor)
    .join(".");
}
