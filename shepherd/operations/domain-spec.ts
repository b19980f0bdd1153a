/** What a machine's domain is made of, and what its volumes are called. Pure: from journal records, nothing remembered. */
import { createHash } from "node:crypto";
import {
  domainName,
  type ImageRecord,
  type MachineRecord,
  type NetworkRecord,
  type Nic,
} from "#model/objects";
import type { MachineId, VolumeId } from "#model/units";
import { bridgeName } from "#network/names";
import type { MachineWorld } from "#operations/records";
import { seedImage } from "#operations/seed";
import type { DomainSpec } from "#ports/host";

/** One content-addressed file of an image, as it lies in every pool. */
export interface ImagePart {
  readonly volume: string;
  readonly format: "qcow2" | "raw";
  /** Where the shepherd reads it; "" when `content` says it. */
  readonly source: string;
  readonly content?: Buffer | undefined;
  /** Undefined: as large as the file. */
  readonly capacityBytes: number | undefined;
}

export function imageParts(image: ImageRecord): readonly ImagePart[] {
  const { spec, effective } = image;
  const parts: ImagePart[] = [
    {
      volume: baseVolume(image),
      format: "qcow2",
      source: spec.source,
      capacityBytes: effective.virtualBytes,
    },
  ];
  if (spec.kernel !== undefined && effective.kernelSha256 !== undefined) {
    parts.push(bootPart(kernelVolume(effective.kernelSha256), spec.kernel));
  }
  if (spec.initrd !== undefined && effective.initrdSha256 !== undefined) {
    parts.push(bootPart(initrdVolume(effective.initrdSha256), spec.initrd));
  }
  return parts;
}

/** All that must lie in a pool before this machine can be there: its image, and its seed where it has user data. */
export function machineParts({ machine, image }: MachineWorld): readonly ImagePart[] {
  return [...imageParts(image), ...seedParts(machine)];
}

/** Of what it was started with, and of what its specification says now. */
export function seedParts(machine: MachineRecord): readonly ImagePart[] {
  const { spec, effective } = machine;
  const words = new Set([effective.started?.userData, spec.userData]);
  return [...words].flatMap((userData) =>
    userData === undefined ? [] : [seedPart(machine, userData)],
  );
}

function seedPart({ id, spec }: MachineRecord, userData: string): ImagePart {
  const content = seedImage({ machineId: id, name: spec.name, userData });
  const sha256 = createHash("sha256").update(content).digest("hex");
  const capacityBytes = content.length;
  return { volume: `drover-${sha256}.seed`, format: "raw", source: "", content, capacityBytes };
}

export function baseVolume(image: ImageRecord): string {
  return `drover-${image.spec.sha256}.qcow2`;
}

/** The machine's own copy-on-write layer. */
export function overlayVolume(machineId: MachineId): string {
  return `drover-${machineId}.qcow2`;
}

/** A data volume, wherever it lies. */
export function dataVolume(volumeId: VolumeId): string {
  return `drover-${volumeId}.qcow2`;
}

export function domainSpecOf(
  { machine, environment, image }: MachineWorld,
  networks: readonly NetworkRecord[],
  epoch: number,
): DomainSpec {
  const { spec, effective } = machine;
  const { started } = effective;
  const { kernelSha256, initrdSha256 } = image.effective;
  const boot =
    kernelSha256 === undefined
      ? undefined
      : {
          kernelVolume: kernelVolume(kernelSha256),
          initrdVolume: initrdSha256 === undefined ? undefined : initrdVolume(initrdSha256),
          cmdline: commandLine(image.spec.cmdline ?? "", spec.name, effective.nics),
        };
  return {
    id: machine.id,
    name: domainName(environment.spec.name, spec.name),
    environmentId: environment.id,
    owner: environment.spec.owner,
    epoch,
    vcpus: effective.vcpus,
    vcpusMax: effective.ceiling.vcpus,
    cpuPercent: effective.cpuPercent,
    ...(effective.cpuWeight === undefined ? {} : { cpuWeight: effective.cpuWeight }),
    memoryMib: effective.memoryMib,
    memoryMaxMib: effective.ceiling.memoryMib,
    boot,
    diskVolume: overlayVolume(machine.id),
    dataVolumes: (started?.disks ?? []).map(dataVolume),
    seedVolume:
      started?.userData === undefined ? undefined : seedPart(machine, started.userData).volume,
    xmlPatches: started?.xmlPatches ?? [],
    nics: effective.nics.map((nic) => ({
      mac: nic.mac,
      bridge: bridgeName(nic.networkId),
      tap: nic.tap,
      mtu: networks.find((network) => network.id === nic.networkId)?.effective.mtu ?? defaultMtu,
    })),
    channels: [],
  };
}

/** VXLAN over plain Ethernet. */
const defaultMtu = 1450;

/** The guest's addresses come first by the kernel's command line, by MAC because devices have no sure order. */
function commandLine(base: string, name: string, nics: readonly Nic[]): string {
  const addresses = nics.map((nic) => `drover.ip=${nic.address}/${nic.prefixLength}@${nic.mac}`);
  return [base, `drover.name=${name}`, ...addresses].filter((word) => word !== "").join(" ");
}

function bootPart(volume: string, source: string): ImagePart {
  return { volume, format: "raw", source, capacityBytes: undefined };
}

function kernelVolume(sha256: string): string {
  return `drover-${sha256}.kernel`;
}

function initrdVolume(sha256: string): string {
  return `drover-${sha256}.initrd`;
}
