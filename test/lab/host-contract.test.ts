/** The host contract on real libvirtd and QEMU, between hosts of two sites. Needs root. */
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { down, up } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { createLibvirtHost } from "@drover/shepherd/libvirt/host";
import { sshDialer } from "@drover/shepherd/libvirt/rpc/transports/ssh";
import { controlGroupsOnHost } from "@drover/shepherd/shell/control-groups";
import { createSshShell, type SshShell } from "@drover/shepherd/shell/ssh";
import { systemClock } from "@drover/shepherd/system";
import { hostContract } from "../contracts/host.ts";

const mib = 2 ** 20;
const name = "hostc";

hostContract("libvirt", async () => {
  const lab = await up({ name });
  const text = readFileSync(lab.configurationFile, "utf8");
  const configured = readConfiguration(text, lab.configurationFile);
  const shells = new Map<string, SshShell>();
  const connect = (id: string) => {
    const host = configured.sites.flatMap((site) => site.hosts).find((one) => one.id === id);
    if (host?.ssh === undefined) throw new Error(`no host ${id}`);
    const target = { ...host.ssh, privateKey: readFileSync(host.ssh.keyFile), jump: undefined };
    const shell = createSshShell({ hostId: id, target });
    shells.set(id, shell);
    return createLibvirtHost({
      id,
      dial: sshDialer(shell),
      pool: host.pool,
      clock: systemClock,
      controlGroups: controlGroupsOnHost(shell),
    });
  };
  const from = connect("north-1");
  const to = connect("south-1");
  for (const shell of shells.values()) {
    await shell.run(["sh", "-c", "ip link add dvtest0 type bridge && ip link set dvtest0 up"]);
  }
  const part = (file: string, volume: string, format: "qcow2" | "raw") => {
    const path = join(lab.imageDirectory, file);
    const sizeBytes = statSync(path).size;
    const capacityBytes = format === "qcow2" ? 128 * mib : sizeBytes;
    return { name: volume, format, sizeBytes, capacityBytes, open: () => createReadStream(path) };
  };
  const spec = {
    id: "0192f000-1111-7222-8333-00000000c001",
    name: "drover-ring-rank-0",
    environmentId: "0192f000-1111-7222-8333-00000000e001",
    owner: "alice & bob",
    epoch: 3,
    vcpus: 1,
    vcpusMax: 4,
    cpuPercent: 90,
    memoryMib: 192,
    memoryMaxMib: 384,
    boot: {
      kernelVolume: "drover-kernel",
      initrdVolume: "drover-initrd",
      cmdline: "console=ttyS0 quiet drover.name=rank-0 drover.ip=10.42.0.10/24",
    },
    diskVolume: "drover-rank-0.qcow2",
    nics: [{ mac: "52:54:00:00:c0:01", bridge: "dvtest0", tap: "dvt0c001", mtu: 1450 }],
    channels: [],
  };
  return {
    from,
    to,
    destinationAddress: hostOf(lab.layout, "south-1").address,
    spec,
    parts: [
      part("base.qcow2", "drover-base.qcow2", "qcow2"),
      part("kernel", "drover-kernel", "raw"),
      part("initrd", "drover-initrd", "raw"),
    ],
    base: { name: "drover-base.qcow2", capacityBytes: 128 * mib },
    until: (work) => work,
    sleep: (durationMs) => sleep(durationMs),
    async setMemoryBehind({ id }, memoryMib) {
      await shells.get(id)?.run(["virsh", "-q", "setmem", spec.name, `${memoryMib}M`, "--live"]);
    },
    async close() {
      await from.close();
      await to.close();
      for (const shell of shells.values()) await shell.close();
      await down({ name });
    },
  };
});
