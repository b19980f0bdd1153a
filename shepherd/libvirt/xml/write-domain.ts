/**
 * A machine's domain XML: q35, virtio everywhere, no graphics, memory that a balloon gives and takes. A pure function
 * of the spec and of what the host is; nothing of it is remembered. `autodeflate` stays off: with it a guest's MemTotal
 * does not follow the balloon (measured).
 */

import { cpuCapOf } from "#libvirt/xml/cpu-cap";
import { type ControlGroups, sharesOf } from "#libvirt/xml/cpu-weight";
import { element, readXml, writeXml, type XmlElement } from "#libvirt/xml/element";
import { markElement } from "#libvirt/xml/metadata";
import { patched } from "#libvirt/xml/patch";
import { defaultCpuWeight } from "#model/objects";
import type { DomainNic, DomainSpec } from "#ports/host";

export const guestChannel = "dev.drover.0";

export interface DomainPlace {
  /** Full virtualization by the processor, or QEMU's translator. */
  readonly acceleration: "kvm" | "tcg";
  /** Absolute path of the pool that holds the volumes. */
  readonly poolPath: string;
  /** Where the serial console is kept: the first thing to read when a guest does not come up. */
  readonly logDirectory: string;
  /** What its kernel measures weights in. Default "v2". */
  readonly controlGroups?: ControlGroups | undefined;
  /** virtio-serial channels that every machine started here gets beside its own; the lab reads guests by one. */
  readonly channels?: readonly string[] | undefined;
}

export function writeDomain(spec: DomainSpec, place: DomainPlace): string {
  const volume = (name: string) => `${place.poolPath}/${name}`;
  const mark = {
    environmentId: spec.environmentId,
    owner: spec.owner,
    epoch: spec.epoch,
    idleVcpus: 0,
  };
  const domain = element(
    "domain",
    { type: place.acceleration === "kvm" ? "kvm" : "qemu" },
    element("name", {}, spec.name),
    element("uuid", {}, spec.id),
    element("metadata", {}, markElement(mark)),
    element("memory", { unit: "MiB" }, spec.memoryMaxMib),
    element("currentMemory", { unit: "MiB" }, spec.memoryMib),
    element("vcpu", { placement: "static", current: spec.vcpus }, spec.vcpusMax),
    cpuTune(spec, place),
    element(
      "os",
      {},
      element("type", { arch: "x86_64", machine: "q35" }, "hvm"),
      ...bootElements(spec, volume),
    ),
    element("features", {}, element("acpi", {}), element("apic", {})),
    cpuModel(spec, place),
    element("clock", { offset: "utc" }),
    element("on_poweroff", {}, "destroy"),
    element("on_reboot", {}, "restart"),
    element("on_crash", {}, "destroy"),
    devices(spec, place, volume),
  );
  return writeXml(patched(domain, spec.xmlPatches ?? []));
}

function bootElements(spec: DomainSpec, volume: (name: string) => string): XmlElement[] {
  const boot = spec.boot;
  if (boot === undefined) return [element("boot", { dev: "hd" })];
  return [
    element("kernel", {}, volume(boot.kernelVolume)),
    ...(boot.initrdVolume === undefined ? [] : [element("initrd", {}, volume(boot.initrdVolume))]),
    element("cmdline", {}, boot.cmdline),
  ];
}

function cpuTune(spec: DomainSpec, { controlGroups = "v2" }: DomainPlace): XmlElement {
  const cap = cpuCapOf(spec);
  const prefix = cap.kind === "domain" ? "global_" : "";
  return element(
    "cputune",
    {},
    ...weightElements(spec, controlGroups),
    element(`${prefix}period`, {}, cap.periodUs),
    element(`${prefix}quota`, {}, cap.quotaUs),
  );
}

/** None for the default, which every host gives by itself. */
function weightElements({ cpuWeight }: DomainSpec, groups: ControlGroups): XmlElement[] {
  if (cpuWeight === undefined || cpuWeight === defaultCpuWeight) return [];
  return [element("shares", {}, sharesOf(cpuWeight, groups))];
}

/** TCG: the same plain model on every host. KVM: what unlike hosts have in common, else what this one has. */
function cpuModel({ cpu }: DomainSpec, place: DomainPlace): XmlElement {
  if (cpu !== undefined) return readXml(cpu);
  if (place.acceleration === "kvm") return element("cpu", { mode: "host-model" });
  return plainCpu();
}

/** The one that QEMU's translator gives on every host. */
export function plainCpu(): XmlElement {
  const model = element("model", { fallback: "forbid" }, "qemu64");
  return element("cpu", { mode: "custom", match: "exact", check: "none" }, model);
}

/** vda, vdb, … : a machine has at most 25 disks. */
function diskElement(file: string, index: number): XmlElement {
  return element(
    "disk",
    { type: "file", device: "disk" },
    element("driver", { name: "qemu", type: "qcow2", discard: "unmap" }),
    element("source", { file }),
    element("target", {
      dev: `vd${String.fromCharCode("a".charCodeAt(0) + index)}`,
      bus: "virtio",
    }),
  );
}

function seedElement(file: string): XmlElement {
  return element(
    "disk",
    { type: "file", device: "cdrom" },
    element("driver", { name: "qemu", type: "raw" }),
    element("source", { file }),
    element("target", { dev: "sda", bus: "sata" }),
    element("readonly", {}),
  );
}

/** Cards and disks that may be plugged in before the next start; libvirt by itself leaves room for one. */
const spareSlots = 4;
/** The channels' controller, the random source and the balloon. */
const ownDevices = 3;

/** A PCIe slot for each device, and some to plug into while it runs. */
function slots(spec: DomainSpec): XmlElement[] {
  const disks = 1 + (spec.dataVolumes?.length ?? 0);
  const count = disks + spec.nics.length + ownDevices + spareSlots;
  return [
    element("controller", { type: "pci", index: 0, model: "pcie-root" }),
    ...Array.from({ length: count }, (_, at) =>
      element("controller", { type: "pci", index: at + 1, model: "pcie-root-port" }),
    ),
  ];
}

/** One network card, at its start or while it runs. */
export function nicElement(nic: DomainNic): XmlElement {
  return element(
    "interface",
    { type: "bridge" },
    element("mac", { address: nic.mac }),
    element("source", { bridge: nic.bridge }),
    element("target", { dev: nic.tap }),
    element("model", { type: "virtio" }),
    element("mtu", { size: nic.mtu }),
    element("rom", { enabled: "no" }),
  );
}

function devices(
  spec: DomainSpec,
  place: DomainPlace,
  volume: (name: string) => string,
): XmlElement {
  const channels = new Set([guestChannel, ...spec.channels, ...(place.channels ?? [])]);
  return element(
    "devices",
    {},
    ...[spec.diskVolume, ...(spec.dataVolumes ?? [])].map((name, index) =>
      diskElement(volume(name), index),
    ),
    ...(spec.seedVolume === undefined ? [] : [seedElement(volume(spec.seedVolume))]),
    element("controller", { type: "usb", model: "none" }),
    ...slots(spec),
    ...spec.nics.map(nicElement),
    element(
      "serial",
      { type: "pty" },
      element("log", { file: `${place.logDirectory}/${spec.name}.serial.log`, append: "on" }),
      element("target", { type: "isa-serial", port: 0 }),
    ),
    element("console", { type: "pty" }, element("target", { type: "serial", port: 0 })),
    ...[...channels].map((name) =>
      element("channel", { type: "unix" }, element("target", { type: "virtio", name })),
    ),
    element("rng", { model: "virtio" }, element("backend", { model: "random" }, "/dev/urandom")),
    element("memballoon", { model: "virtio", autodeflate: "off" }, element("stats", { period: 2 })),
  );
}
