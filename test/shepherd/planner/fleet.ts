/** Builds small fleets and requests for tests of the planner, of policy inputs and of drift. Facts as data, nothing runs. */
import type { Facts, HostFacts, ObservedMachine } from "@drover/shepherd/model/facts";
import type {
  Envelope,
  EnvironmentRecord,
  ImageRecord,
  LinkRecord,
  MachineRecord,
  Sizing,
} from "@drover/shepherd/model/objects";
import type { MachineAsk, Request, RequestKind } from "@drover/shepherd/model/request";
import { ceilingOf } from "@drover/shepherd/planner/target";

export const nowMs = 1_800_000_000_000;

export function host(
  id: string,
  siteId: string,
  lend: { cpuPercent?: number; memoryMib?: number; diskGib?: number } = {},
  more: Partial<HostFacts> = {},
): HostFacts {
  return {
    id,
    siteId,
    state: "up",
    lend: { cpuPercent: 200, memoryMib: 1024, diskGib: 50, ...lend },
    foreign: { count: 0, cpuPercent: 0, memoryMib: 0 },
    observedAtMs: nowMs,
    ...more,
  };
}

export const image: ImageRecord = {
  kind: "image",
  id: "image-1",
  key: "base",
  environmentId: undefined,
  spec: { name: "base", source: "/images/base.qcow2", sha256: "00" },
  effective: { sizeBytes: 10 * 2 ** 20, virtualBytes: 2 ** 30 },
  version: 1,
  claimed: true,
  createdAtMs: nowMs,
};

export function environment(name = "ring", sites = ["north", "south"]): EnvironmentRecord {
  return {
    kind: "environment",
    id: `env-${name}`,
    key: name,
    environmentId: undefined,
    spec: { name, owner: "alice", class: "batch", sites },
    effective: {},
    version: 1,
    claimed: true,
    createdAtMs: nowMs,
  };
}

export function machine(
  name: string,
  at: { hostId: string; siteId: string },
  more: {
    environmentName?: string;
    baseline?: Partial<Sizing> & { siteId?: string };
    effective?: Partial<MachineRecord["effective"]>;
    envelope?: Partial<Envelope>;
    spec?: Partial<MachineRecord["spec"]>;
  } = {},
): MachineRecord {
  const environmentId = `env-${more.environmentName ?? "ring"}`;
  const baseline = {
    vcpus: 1,
    cpuPercent: 20,
    memoryMib: 256,
    siteId: at.siteId,
    ...more.baseline,
  };
  const spec = {
    environmentId,
    name,
    speaker: false,
    imageId: image.id,
    baseline,
    envelope: {
      mode: "auto" as const,
      vcpus: { min: 1, max: 2 },
      cpuPercent: { min: 10, max: 100 },
      memoryMib: { min: 128, max: 4096 },
      sites: ["north", "south"],
      ...more.envelope,
    },
    networks: [],
    ...more.spec,
  };
  return {
    kind: "machine",
    id: `m-${more.environmentName ?? "ring"}-${name}`,
    key: `${environmentId}/${name}`,
    environmentId,
    spec,
    effective: {
      vcpus: baseline.vcpus,
      cpuPercent: baseline.cpuPercent,
      memoryMib: baseline.memoryMib,
      siteId: at.siteId,
      hostId: at.hostId,
      state: at.hostId === "" ? "creating" : "running",
      ceiling: ceilingOf(spec),
      nics: [],
      ...more.effective,
    },
    version: 1,
    claimed: true,
    createdAtMs: nowMs,
  };
}

export function link(left: string, right: string, rateMbps: number): LinkRecord {
  return {
    kind: "link",
    id: `l-${left}-${right}`,
    key: `env-ring/${left}--${right}`,
    environmentId: "env-ring",
    spec: { environmentId: "env-ring", machines: [left, right], rateMbps },
    effective: { rateMbps },
    version: 1,
    claimed: true,
    createdAtMs: nowMs,
  };
}

/** A link of a machine with a network of its environment. */
export function networkLink(name: string, network: string, rateMbps: number): LinkRecord {
  const spec = { environmentId: "env-ring", machines: [name] as const, network, rateMbps };
  return {
    ...link(name, network, rateMbps),
    id: `l-${name}@${network}`,
    key: `env-ring/${name}@${network}`,
    spec,
  };
}

export function facts(
  hosts: readonly HostFacts[],
  machines: readonly MachineRecord[],
  more: Partial<Facts> = {},
): Facts {
  const siteIds = [...new Set(hosts.map(({ siteId }) => siteId))];
  return {
    nowMs,
    sites: siteIds.map((id) => ({
      id,
      owner: `owner-${id}`,
      hosts: hosts.filter(({ siteId }) => siteId === id),
    })),
    environments: [environment()],
    networks: [],
    images: [image],
    machines,
    links: [],
    groups: [],
    volumes: [],
    forecasts: [],
    reservations: [],
    observed: {},
    loads: {},
    recent: [],
    moves: [],
    hourLow: {},
    holds: [],
    recalls: [],
    exemptions: [],
    siteRates: {},
    ...more,
  };
}

export function seen(
  of: MachineRecord,
  more: Partial<ObservedMachine> = {},
): Record<string, ObservedMachine> {
  return {
    [of.id]: {
      hostId: of.effective.hostId,
      running: true,
      vcpus: of.effective.vcpus,
      cpuPercent: of.effective.cpuPercent,
      memoryMib: of.effective.memoryMib,
      memoryTargetMib: of.effective.memoryMib,
      observedAtMs: nowMs,
      ...more,
    },
  };
}

export function request(
  kind: RequestKind,
  machines: readonly MachineAsk[],
  more: Partial<Request> = {},
): Request {
  return {
    id: "request-1",
    kind,
    environmentId: "env-ring",
    subject: { type: "operator", name: "ops", roles: ["operator"] },
    machines,
    links: [],
    reason: "",
    idempotencyKey: "key-1",
    receivedAtMs: nowMs,
    ...more,
  };
}
