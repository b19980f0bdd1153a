/**
 * What a domain's XML says about it, ours or foreign. Sizes in MiB and percent; the live document tells what is in
 * force, the inactive one what was last asked for. Knows no calls.
 */

import { protocolFault } from "#libvirt/rpc/xdr";
import { cpuPercentOf } from "#libvirt/xml/cpu-cap";
import { all, at, readXml, type XmlElement } from "#libvirt/xml/element";
import { type Mark, readMark, readOtherMark } from "#libvirt/xml/metadata";
import type { CpuPercent, Mib } from "#model/units";

export interface DomainDescription {
  readonly id: string;
  readonly name: string;
  readonly acceleration: "kvm" | "tcg" | "other";
  /** Undefined: not ours. */
  readonly mark: Mark | undefined;
  /** Namespace of somebody else's element in its metadata. */
  readonly otherMark: string | undefined;
  /** Plugged, given-back ones included. */
  readonly vcpus: number;
  readonly vcpusMax: number;
  readonly cpuPercent: CpuPercent | undefined;
  /** In the words of the host's control groups; undefined: their default. */
  readonly cpuShares: number | undefined;
  readonly memoryMib: Mib;
  readonly memoryMaxMib: Mib;
  readonly machineType: string;
  readonly disks: readonly {
    readonly target: string;
    readonly file: string | undefined;
    /** A medium: a cdrom, or a disk that is never written. */
    readonly readOnly: boolean;
  }[];
  readonly nics: readonly {
    readonly mac: string;
    readonly bridge: string | undefined;
    readonly tap: string | undefined;
  }[];
  /** virtio channels and whether the guest holds them open. */
  readonly channels: readonly { readonly name: string; readonly connected: boolean }[];
}

/** Fault `libvirt.protocol` when the document is no domain's. */
export function readDomain(document: string): DomainDescription {
  const root = readXml(document);
  const id = at(root, "uuid")?.text;
  const name = at(root, "name")?.text;
  if (root.name !== "domain" || id === undefined || name === undefined) {
    throw protocolFault(`<${root.name}> is no domain`);
  }
  const vcpu = at(root, "vcpu");
  const vcpusMax = Number(vcpu?.text ?? 1);
  const vcpus = Number(vcpu?.attributes["current"] ?? vcpusMax);
  const memoryMaxMib = mibOf(at(root, "memory"));
  const devices = at(root, "devices");
  return {
    id,
    name,
    acceleration: accelerationOf(root.attributes["type"]),
    mark: readMark(at(root, "metadata")),
    otherMark: readOtherMark(at(root, "metadata")),
    vcpus,
    vcpusMax,
    cpuPercent: cpuPercentIn(at(root, "cputune"), vcpus),
    cpuShares: numberIn(at(root, "cputune"), "shares"),
    memoryMib:
      at(root, "currentMemory") === undefined ? memoryMaxMib : mibOf(at(root, "currentMemory")),
    memoryMaxMib,
    machineType: at(root, "os", "type")?.attributes["machine"] ?? "",
    disks: all(devices, "disk").map((disk) => ({
      target: at(disk, "target")?.attributes["dev"] ?? "",
      file: at(disk, "source")?.attributes["file"],
      readOnly:
        at(disk, "readonly") !== undefined || (disk.attributes["device"] ?? "disk") !== "disk",
    })),
    nics: all(devices, "interface").map((nic) => ({
      mac: at(nic, "mac")?.attributes["address"] ?? "",
      bridge: at(nic, "source")?.attributes["bridge"],
      tap: at(nic, "target")?.attributes["dev"],
    })),
    channels: all(devices, "channel").flatMap((channel) => {
      const target = at(channel, "target");
      const channelName = target?.attributes["name"];
      if (target?.attributes["type"] !== "virtio" || channelName === undefined) return [];
      return [{ name: channelName, connected: target.attributes["state"] === "connected" }];
    }),
  };
}

function accelerationOf(type: string | undefined): DomainDescription["acceleration"] {
  if (type === "kvm") return "kvm";
  return type === "qemu" ? "tcg" : "other";
}

function numberIn(element: XmlElement | undefined, name: string): number | undefined {
  const text = element === undefined ? undefined : at(element, name)?.text;
  return text === undefined ? undefined : Number(text);
}

function cpuPercentIn(tune: XmlElement | undefined, vcpus: number): CpuPercent | undefined {
  if (tune === undefined) return undefined;
  const number = (name: string) => numberIn(tune, name);
  return cpuPercentOf({
    vcpus,
    vcpuPeriodUs: number("period"),
    vcpuQuotaUs: number("quota"),
    domainPeriodUs: number("global_period"),
    domainQuotaUs: number("global_quota"),
  });
}

const kibPerUnit: Readonly<Record<string, number>> = {
  b: 1 / 1024,
  bytes: 1 / 1024,
  KiB: 1,
  k: 1,
  MiB: 1024,
  M: 1024,
  GiB: 1024 * 1024,
  G: 1024 * 1024,
};

/** libvirt answers in KiB; a foreign document may use another unit. */
function mibOf(size: XmlElement | undefined): Mib {
  if (size === undefined) return 0;
  const unit = kibPerUnit[size.attributes["unit"] ?? "KiB"] ?? 1;
  return Math.round((Number(size.text) * unit) / 1024);
}
