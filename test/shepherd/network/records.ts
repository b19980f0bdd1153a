/** Builds journal records for the network room's tests: small worlds of hosts, networks, machines and links. */
import {
  type LinkRecord,
  type LinkSpec,
  type MachineRecord,
  type MachineState,
  type NetworkRecord,
  nameOfLink,
} from "@drover/shepherd/model/objects";
import type { HostRecord } from "@drover/shepherd/model/site";
import { macAddress, tapName } from "@drover/shepherd/network/names";

export function hostRecord(id: string, migrationAddress: string): HostRecord {
  return {
    id,
    siteId: id.split("-")[0] ?? id,
    pool: "drover",
    migrationAddress,
    lend: { cpuPercent: 400, memoryMib: 4096, diskGib: 10 },
  };
}

export function networkRecord(environmentId: string, name: string, vni: number): NetworkRecord {
  return {
    kind: "network",
    id: `network-${environmentId}-${name}`,
    key: `${environmentId}/${name}`,
    environmentId,
    spec: { environmentId, name, cidr: "10.42.0.0/24" },
    effective: { vni, mtu: 1450 },
    version: 1,
    claimed: true,
    createdAtMs: 0,
  };
}

export function machineRecord(options: {
  readonly environmentId: string;
  readonly name: string;
  readonly hostId: string;
  readonly networkIds: readonly string[];
  readonly address: string;
  readonly state?: MachineState;
}): MachineRecord {
  const id = `machine-${options.environmentId}-${options.name}`;
  const sizing = { vcpus: 1, cpuPercent: 20, memoryMib: 256 };
  return {
    kind: "machine",
    id,
    key: `${options.environmentId}/${options.name}`,
    environmentId: options.environmentId,
    spec: {
      environmentId: options.environmentId,
      name: options.name,
      speaker: false,
      imageId: "image",
      baseline: { ...sizing, siteId: "north" },
      envelope: { mode: "auto" },
      networks: options.networkIds.map((networkId) => ({ networkId })),
    },
    effective: {
      ...sizing,
      siteId: "north",
      hostId: options.hostId,
      state: options.state ?? "running",
      ceiling: { vcpus: 1, memoryMib: 256 },
      nics: options.networkIds.map((networkId, index) => ({
        networkId,
        address: options.address,
        prefixLength: 24,
        mac: macAddress(id, index),
        tap: tapName(id, index),
      })),
    },
    version: 1,
    claimed: true,
    createdAtMs: 0,
  };
}

export function linkRecord(
  environmentId: string,
  machines: readonly [string, string],
  rateMbps: number,
): LinkRecord {
  return linkOf({ environmentId, machines, rateMbps });
}

/** A link of one machine with its network. */
export function networkLinkRecord(
  environmentId: string,
  ends: { readonly machine: string; readonly network: string },
  rateMbps: number,
): LinkRecord {
  const { machine, network } = ends;
  return linkOf({ environmentId, machines: [machine], network, rateMbps });
}

function linkOf(spec: LinkSpec): LinkRecord {
  const { environmentId, rateMbps } = spec;
  return {
    kind: "link",
    id: `link-${environmentId}-${nameOfLink(spec)}`,
    key: `${environmentId}/${nameOfLink(spec)}`,
    environmentId,
    spec,
    effective: { rateMbps },
    version: 1,
    claimed: true,
    createdAtMs: 0,
  };
}
