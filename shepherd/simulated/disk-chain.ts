/** A simulated guest's disk, frozen and folded, as libvirt/disk-chain.ts does it for real. */
import { Fault } from "#model/fault";
import type { MachineId } from "#model/units";
import type { DiskLayers } from "#ports/host";
import type { DomainData, HostData } from "#simulated/data";
import type { Machinery } from "#simulated/machinery";

/** What an empty qcow2 takes. */
const emptyOverlayBytes = 200_704;

export function freeze(
  machinery: Machinery,
  host: HostData,
  domain: DomainData,
  layers: DiskLayers,
): void {
  if (domain.top === layers.top) return;
  const volume = host.volumes[layers.volume];
  if (domain.spec?.diskVolume !== layers.volume || volume === undefined) {
    throw noSuchDisk("freezeDisk", domain.id, layers);
  }
  host.volumes[layers.top] = {
    name: layers.top,
    capacityBytes: volume.capacityBytes,
    allocatedBytes: emptyOverlayBytes,
    backing: layers.volume,
    content: domain.diskContent,
  };
  domain.top = layers.top;
  machinery.changed();
}

export function fold(
  machinery: Machinery,
  host: HostData,
  domain: DomainData,
  layers: DiskLayers,
): void {
  if (domain.spec?.diskVolume !== layers.volume) throw noSuchDisk("foldDisk", domain.id, layers);
  const top = host.volumes[layers.top];
  const volume = host.volumes[layers.volume];
  if (domain.top === layers.top && top !== undefined && volume !== undefined) {
    volume.content = top.content;
    volume.allocatedBytes += top.allocatedBytes;
    domain.top = undefined;
    machinery.changed();
  }
  if (host.volumes[layers.top] !== undefined) machinery.removeVolume(host, layers.top);
}

function noSuchDisk(procedure: string, id: MachineId, { volume, top }: DiskLayers): Fault {
  const message = `domain ${id} writes neither to ${volume} nor to ${top}`;
  return new Fault("libvirt.bad_argument", { procedure, message });
}
