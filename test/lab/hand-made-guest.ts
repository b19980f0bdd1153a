/** A guest that no shepherd made: XML written by hand, started with virsh in a lab host. The lab's own tests use it. */
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { labChannel } from "@drover/shepherd/lab/guest-shell";
import { insideHost } from "@drover/shepherd/lab/host";
import { openLab } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { must } from "@drover/shepherd/lab/process";

const pool = "/var/lib/libvirt/images";

/** Runs a command in a host's namespaces and answers its output; throws when it fails. */
export async function atHost(
  name: string,
  host: string,
  argv: readonly string[],
  input?: string,
): Promise<string> {
  const anchor = openLab({ name }).hosts[host]?.anchor;
  if (anchor === undefined) throw new Error(`${host} has no anchor`);
  return await must([...insideHost(anchor), ...argv], { input, timeoutMs: 120_000 });
}

/** The image's files and an empty overlay in a host's pool, and a plain bridge. */
export async function placeGuest(name: string, host: string, guest: string): Promise<void> {
  const { layout, imageDirectory } = openLab({ name });
  const images = join(hostOf(layout, host).folder, "lib/images");
  for (const file of ["kernel", "initrd", "base.qcow2"]) {
    if (!existsSync(join(images, file)))
      copyFileSync(join(imageDirectory, file), join(images, file));
  }
  await must([
    "qemu-img",
    "create",
    "-q",
    "-f",
    "qcow2",
    "-b",
    "base.qcow2",
    "-F",
    "qcow2",
    join(images, `${guest}.qcow2`),
  ]);
  const links = await atHost(name, host, ["ip", "-o", "link"]);
  if (!links.includes(" br0:"))
    await atHost(name, host, ["ip", "-batch", "-"], "link add br0 type bridge\nlink set br0 up\n");
}

export async function startGuest(
  name: string,
  host: string,
  guest: { readonly name: string; readonly address: string },
): Promise<void> {
  await placeGuest(name, host, guest.name);
  const { layout } = openLab({ name });
  writeFileSync(join(hostOf(layout, host).folder, `run/${guest.name}.xml`), domainXml(guest));
  await atHost(name, host, ["virsh", "create", `/run/${guest.name}.xml`]);
}

function domainXml(guest: { readonly name: string; readonly address: string }): string {
  return `<domain type='qemu'>
  <name>${guest.name}</name>
  <memory unit='MiB'>384</memory><currentMemory unit='MiB'>192</currentMemory>
  <vcpu current='1'>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <kernel>${pool}/kernel</kernel><initrd>${pool}/initrd</initrd>
    <cmdline>console=ttyS0 quiet drover.ip=${guest.address}/24 drover.name=${guest.name}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <cputune><global_period>100000</global_period><global_quota>100000</global_quota></cputune>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${pool}/${guest.name}.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>
    <serial type='file'><source path='/var/log/libvirt/qemu/${guest.name}.serial.log'/></serial>
    <channel type='unix'><target type='virtio' name='dev.drover.0'/></channel>
    <channel type='unix'><target type='virtio' name='${labChannel}'/></channel>
    <memballoon model='virtio'/>
  </devices>
</domain>`;
}
