/**
 * Records as the API shows them. A machine's view joins what is journaled with what its host said last, so that a
 * foreign change shows as drift and an approved one does not. Pure.
 */
import type {
  AdaptationView,
  EnvironmentView,
  ImageView,
  LinkView,
  MachineView,
  NetworkView,
  OperationView,
  StepView,
} from "#api/contract";
import type { ObservedMachine } from "#model/facts";
import {
  classOf,
  type EnvironmentRecord,
  type ImageRecord,
  type LinkRecord,
  type MachineRecord,
  type NetworkRecord,
} from "#model/objects";
import type { Operation, StepRecord } from "#model/plan";
import type { Adaptation } from "#model/request";
import { toWire } from "#model/wire";
import { type Drift, driftOf, shownSizing } from "#sensing/drift";

export function environmentView(record: EnvironmentRecord): EnvironmentView {
  const { name, owner, class: className, sites } = record.spec;
  return {
    id: record.id,
    name,
    owner,
    class: className,
    sites: [...sites],
    version: record.version,
  };
}

export function networkView(record: NetworkRecord): NetworkView {
  const { environmentId, name, cidr } = record.spec;
  const { vni, mtu } = record.effective;
  return {
    id: record.id,
    environment_id: environmentId,
    name,
    cidr,
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
  const { environmentId, machines, rateMbps } = record.spec;
  const { effective } = record;
  return {
    id: record.id,
    environment_id: environmentId,
    machines: [...machines],
    rate_mbps: rateMbps,
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
  memoryMib: "memory_mib",
  siteId: "site",
} as const satisfies Record<Drift["attribute"], MachineView["drift"][number]["attribute"]>;

export function machineView(record: MachineRecord, context: MachineContext): MachineView {
  const { spec, effective } = record;
  const seen = context.busy ? undefined : context.observed;
  const live = shownSizing(record, seen);
  const drift = driftOf(record, seen, context.siteOf);
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
    site: spec.baseline.siteId,
    adaptation: toWire(spec.envelope),
    networks: effective.nics.map(({ networkId, address, mac }) => ({
      network_id: networkId,
      address,
      mac,
    })),
    ceiling: { vcpus: effective.ceiling.vcpus, memory_mib: effective.ceiling.memoryMib },
    effective: {
      vcpus: live.vcpus,
      cpu_percent: live.cpuPercent,
      memory_mib: live.memoryMib,
      site: String(site),
      host: site === effective.siteId ? effective.hostId : (seen?.hostId ?? effective.hostId),
      state: effective.state,
      adaptation_id: effective.adaptationId ?? null,
      lease_until_ms: effective.leaseUntilMs ?? null,
      reason: effective.reason ?? null,
    },
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
