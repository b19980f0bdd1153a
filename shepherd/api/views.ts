/**
 * Records as the API shows them. A machine's view joins what is journaled with what its host said last, so that a
 * foreign change shows as drift and an approved one does not. Pure.
 */
import { createHash } from "node:crypto";
import type {
  AdaptationView,
  EnvironmentView,
  ForecastView,
  GroupView,
  ImageView,
  LinkView,
  MachineView,
  NetworkView,
  OperationView,
  PinnableAttribute as PinnableName,
  StepView,
  VolumeView,
} from "#api/contract";
import type { ObservedMachine } from "#model/facts";
import {
  type AdaptationWord,
  classOf,
  type DeclaredAdaptation,
  defaultCpuWeight,
  defaultStopTimeoutMs,
  type EnvironmentAdaptation,
  type EnvironmentRecord,
  type ForecastRecord,
  type GroupRecord,
  type GroupTemplate,
  type ImageRecord,
  type LinkRecord,
  type MachineRecord,
  type NetworkRecord,
  type PinnableAttribute,
  type VolumeRecord,
} from "#model/objects";
import type { Operation, StepRecord } from "#model/plan";
import type { Adaptation } from "#model/request";
import { toWire } from "#model/wire";
import { unplugged } from "#planner/cards";
import { groupMode } from "#planner/groups";
import { restartNeeded } from "#planner/restart";
import { liveCpuWeight } from "#planner/target";
import { type Drift, driftOf, shownSizing } from "#sensing/drift";

export function environmentView(record: EnvironmentRecord): EnvironmentView {
  const { name, owner, class: className, sites } = record.spec;
  return {
    id: record.id,
    name,
    owner,
    class: className,
    sites: [...sites],
    adaptation: environmentAdaptationView(record.spec.adaptation),
    version: record.version,
  };
}

function environmentAdaptationView(
  adaptation: EnvironmentAdaptation | undefined,
): EnvironmentView["adaptation"] {
  if (adaptation === undefined) return null;
  const { links } = adaptation;
  return {
    ...adaptationWords(adaptation),
    links: links === undefined ? null : { max_added: links.maxAdded, rate_mbps: links.rateMbps },
  };
}

/** As declared; null where nothing was said. */
function adaptationWords(word: AdaptationWord) {
  return {
    mode: word.mode ?? null,
    vcpus: word.vcpus ?? null,
    cpu_percent: word.cpuPercent ?? null,
    memory_mib: word.memoryMib ?? null,
    sites: word.sites === undefined ? null : [...word.sites],
  };
}

export const pinnableNames = {
  vcpus: "vcpus",
  cpuPercent: "cpu_percent",
  memoryMib: "memory_mib",
  siteId: "site",
} as const satisfies Record<PinnableAttribute, PinnableName>;

export function declaredAdaptationView(
  declared: DeclaredAdaptation | undefined,
): MachineView["declared_adaptation"] {
  if (declared === undefined) return null;
  const pinned = declared.pinned?.map((attribute) => pinnableNames[attribute]) ?? null;
  return { ...adaptationWords(declared), pinned_attributes: pinned };
}

/** What a group's machines share, in the words of the body it was declared with. */
function templateView(template: GroupTemplate): GroupView["template"] {
  const { baseline, ceiling, xmlPatches } = template;
  return {
    class: template.class ?? null,
    image_id: template.imageId,
    vcpus: baseline.vcpus,
    cpu_percent: baseline.cpuPercent,
    memory_mib: baseline.memoryMib,
    cpu_weight: template.cpuWeight ?? defaultCpuWeight,
    site: baseline.siteId,
    adaptation: declaredAdaptationView(template.declared),
    networks: template.networks.map(({ networkId }) => ({ network_id: networkId })),
    ceiling:
      ceiling === undefined
        ? null
        : { vcpus: ceiling.vcpus ?? null, memory_mib: ceiling.memoryMib ?? null },
    // Secrets are not shown; a provider compares what it sent before.
    user_data: null,
    stop_timeout_s: Math.round((template.stopTimeoutMs ?? defaultStopTimeoutMs) / 1_000),
    deletion_protection: template.deletionProtection ?? false,
    allow_restart: template.allowRestart ?? false,
    raw_xml_patch: (xmlPatches ?? []).map(({ path, value }) => ({ path, value })),
  };
}

/** `members`: the machines of its name, in the order of their names. */
export function groupView(
  record: GroupRecord,
  members: readonly MachineRecord[],
  environment: EnvironmentRecord | undefined,
): GroupView {
  const { spec, effective } = record;
  return {
    id: record.id,
    environment_id: spec.environmentId,
    name: spec.name,
    template: templateView(spec.template),
    machine_count: spec.machineCount,
    adaptation: {
      mode: spec.mode ?? null,
      mode_in_force: groupMode(spec, environment?.spec),
      machine_count: spec.machineCounts ?? null,
    },
    topology: spec.topology,
    topology_rate_mbps: spec.topology === "none" ? null : spec.topologyRateMbps,
    coupling: spec.coupling,
    speaker: spec.speaker ?? null,
    effective: {
      machine_count: members.length,
      machines: members.map((member) => ({
        id: member.id,
        name: member.spec.name,
        origin: member.spec.origin === "adaptation" ? "adaptation" : "stack",
        state: member.effective.state,
      })),
      adaptation_id: effective.adaptationId ?? null,
      lease_until_ms: effective.leaseUntilMs ?? null,
      reason: effective.reason ?? null,
    },
    version: record.version,
  };
}

/** `machine`: the name of the machine that has it, if one has. */
export function volumeView(record: VolumeRecord, machine: string | undefined): VolumeView {
  const { spec, effective } = record;
  return {
    id: record.id,
    environment_id: spec.environmentId,
    name: spec.name,
    // What lies on its host; of one that lies nowhere yet, what it is to have.
    size_gib: effective.hostId === "" ? spec.sizeGib : effective.sizeGib,
    deletion_protection: spec.deletionProtection ?? false,
    effective: {
      site: effective.siteId === "" ? null : effective.siteId,
      host: effective.hostId === "" ? null : effective.hostId,
      machine: machine ?? null,
    },
    version: record.version,
  };
}

export function forecastView(record: ForecastRecord, environment: string): ForecastView {
  const { spec } = record;
  return {
    id: record.id,
    environment,
    machines: [...spec.machines],
    group: spec.group ?? null,
    phase: spec.phase,
    from_ms: spec.fromMs,
    until_ms: spec.untilMs ?? null,
    vcpus: spec.vcpus ?? null,
    cpu_percent: spec.cpuPercent ?? null,
    memory_mib: spec.memoryMib ?? null,
    rate_mbps: spec.rateMbps ?? null,
    reason: spec.reason,
    announced_at_ms: record.createdAtMs,
  };
}

export function networkView(record: NetworkRecord): NetworkView {
  const { environmentId, name, cidr, gateway } = record.spec;
  const { vni, mtu } = record.effective;
  return {
    id: record.id,
    environment_id: environmentId,
    name,
    cidr,
    gateway: gateway === undefined ? null : { site: gateway.siteId, nat: gateway.nat },
    vni,
    mtu,
    version: record.version,
  };
}

export function imageView(record: ImageRecord): ImageView {
  const { name, source, sha256, kernel, initrd, cmdline } = record.spec;
  return {
    id: record.id,
    name,
    source,
    sha256,
    kernel: kernel ?? null,
    initrd: initrd ?? null,
    cmdline: cmdline ?? null,
    size_bytes: record.effective.sizeBytes,
    virtual_bytes: record.effective.virtualBytes,
    version: record.version,
  };
}

export function linkView(record: LinkRecord): LinkView {
  const { environmentId, machines, network, rateMbps } = record.spec;
  const { effective } = record;
  return {
    id: record.id,
    environment_id: environmentId,
    machines: machines.filter((end) => end !== undefined),
    network: network ?? null,
    rate_mbps: rateMbps,
    latency: record.spec.latency ?? null,
    burst_kib: record.spec.burstKib ?? null,
    origin: record.spec.origin ?? "stack",
    effective: {
      rate_mbps: effective.rateMbps,
      adaptation_id: effective.adaptationId ?? null,
      lease_until_ms: effective.leaseUntilMs ?? null,
    },
    version: record.version,
  };
}

export interface MachineContext {
  readonly environment: EnvironmentRecord;
  readonly observed: ObservedMachine | undefined;
  /** An operation works on it: what is observed meanwhile is neither here nor there, and no drift. */
  readonly busy: boolean;
  /** Site of the host that it was observed on. */
  readonly siteOf: (hostId: string) => string | undefined;
}

const driftNames = {
  vcpus: "vcpus",
  cpuPercent: "cpu_percent",
  cpuWeight: "cpu_weight",
  memoryMib: "memory_mib",
  siteId: "site",
  networks: "networks",
} as const satisfies Record<Drift["attribute"], MachineView["drift"][number]["attribute"]>;

export function machineView(record: MachineRecord, context: MachineContext): MachineView {
  const { spec, effective } = record;
  const seen = context.busy ? undefined : context.observed;
  const live = shownSizing(record, seen);
  const drift = driftOf(record, seen, context.siteOf);
  const missing = drift.some(({ attribute }) => attribute === "networks")
    ? unplugged(record, seen)
    : [];
  const site = drift.find(({ attribute }) => attribute === "siteId")?.actual ?? effective.siteId;
  return {
    id: record.id,
    environment_id: spec.environmentId,
    environment: context.environment.spec.name,
    name: spec.name,
    group: spec.group ?? null,
    speaker: spec.speaker,
    class: classOf(spec, context.environment.spec),
    image_id: spec.imageId,
    vcpus: spec.baseline.vcpus,
    cpu_percent: spec.baseline.cpuPercent,
    memory_mib: spec.baseline.memoryMib,
    cpu_weight: spec.cpuWeight ?? defaultCpuWeight,
    site: spec.baseline.siteId,
    host: spec.hostId ?? null,
    adaptation: toWire(spec.envelope),
    declared_adaptation: declaredAdaptationView(spec.declared),
    disks: (spec.disks ?? []).map((id) => ({ volume_id: id })),
    user_data_sha256:
      spec.userData === undefined
        ? null
        : createHash("sha256").update(spec.userData, "utf8").digest("hex"),
    stop_timeout_s: Math.round((spec.stopTimeoutMs ?? defaultStopTimeoutMs) / 1_000),
    deletion_protection: spec.deletionProtection ?? false,
    allow_restart: spec.allowRestart ?? false,
    raw_xml_patch: (spec.xmlPatches ?? []).map(({ path, value }) => ({ path, value })),
    origin: spec.origin ?? "stack",
    managed_by: effective.managedBy ?? null,
    restart_needed: [...restartNeeded(record)],
    networks: effective.nics.map(({ networkId, address, mac }) => ({
      network_id: networkId,
      address,
      mac,
      plugged: !missing.some((nic) => nic.mac === mac),
    })),
    ceiling: { vcpus: effective.ceiling.vcpus, memory_mib: effective.ceiling.memoryMib },
    effective: {
      vcpus: live.vcpus,
      cpu_percent: live.cpuPercent,
      memory_mib: live.memoryMib,
      cpu_weight: liveCpuWeight(record, record.effective.state === "running" ? seen : undefined),
      site: String(site),
      host: site === effective.siteId ? effective.hostId : (seen?.hostId ?? effective.hostId),
      state: effective.state,
      adaptation_id: effective.adaptationId ?? null,
      lease_until_ms: effective.leaseUntilMs ?? null,
      reason: effective.reason ?? null,
    },
    guest_seen:
      seen?.running === true
        ? { vcpus: seen.guestVcpus ?? seen.vcpus, memory_mib: seen.memoryMib }
        : null,
    drift: drift.map(({ attribute, ...values }) => ({
      attribute: driftNames[attribute],
      ...values,
    })),
    version: record.version,
  };
}

export function operationView(operation: Operation): OperationView {
  return { ...toWire(operation), fault: operation.fault ?? null };
}

export function stepView(step: StepRecord): StepView {
  return toWire(step);
}

export function adaptationView(
  adaptation: Adaptation,
  names: { environment: string; machine: string | undefined; link: string | undefined },
): AdaptationView {
  return {
    ...toWire(adaptation),
    environment: names.environment,
    machine: names.machine ?? null,
    link: names.link ?? null,
  };
}
