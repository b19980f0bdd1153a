/**
 * The Host port on real libvirtd, QEMU and sshd: what is claimed about a guest is read inside the guest; virsh is the
 * witness outside. Two hosts of different sites that share nothing. Needs root.
 */
import { once } from "node:events";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, labChannel, openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { createLibvirtHost } from "@drover/shepherd/libvirt/host";
import { RpcConnection } from "@drover/shepherd/libvirt/rpc/connection";
import {
  type EventListeners,
  type EventName,
  events,
  subscribe,
} from "@drover/shepherd/libvirt/rpc/events";
import { qemu, remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { domainOf } from "@drover/shepherd/libvirt/rpc/references";
import { numberIn } from "@drover/shepherd/libvirt/rpc/schema";
import { sshDialer } from "@drover/shepherd/libvirt/rpc/transports/ssh";
import { metadataUri } from "@drover/shepherd/libvirt/xml/metadata";
import type { Clock } from "@drover/shepherd/ports/clock";
import type { DomainEvent, DomainSpec, Host, MigrationProgress } from "@drover/shepherd/ports/host";
import { createSshShell, type SshShell } from "@drover/shepherd/shell/ssh";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";

const clock: Clock = {
  nowMs: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
  at: (atMs, work) => {
    const timer = setTimeout(work, atMs - Date.now());
    return () => clearTimeout(timer);
  },
};
const mib = 1024 * 1024;
const diskBytes = 128 * mib;
const machineId = "0192f000-1111-7222-8333-00000000a001";

let lab: Lab;
let north: Host;
let south: Host;
let guest: GuestShell;
const shells = new Map<string, SshShell>();
const northEvents: DomainEvent[] = [];
/** A bare connection to the north host, registered for all events there are. */
let direct: RpcConnection;
const eventNames = new Set<EventName>();

const spec: DomainSpec = {
  id: machineId,
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
  nics: [{ mac: "52:54:00:00:a0:01", bridge: "dvtest0", tap: "dvt0a001", mtu: 1450 }],
  channels: [labChannel],
};

beforeAll(async () => {
  lab = await up({ name: "libv" });
  const configuration = readConfiguration(
    readFileSync(lab.configurationFile, "utf8"),
    lab.configurationFile,
  );
  const hosts = configuration.sites.flatMap((site) => site.hosts);
  const connect = (id: string): Host => {
    const host = hosts.find((candidate) => candidate.id === id);
    if (host?.ssh === undefined) throw new Error(`no host ${id}`);
    const { ssh } = host;
    const target = { ...ssh, privateKey: readFileSync(ssh.keyFile), jump: undefined };
    const shell = createSshShell({ hostId: id, target });
    shells.set(id, shell);
    return createLibvirtHost({ id, dial: sshDialer(shell), pool: host.pool, clock });
  };
  north = connect("north-1");
  south = connect("south-1");
  for (const shell of shells.values()) {
    await shell.run(["sh", "-c", "ip link add dvtest0 type bridge && ip link set dvtest0 up"]);
  }
  const restored = new Promise<void>((resolve) => {
    north.watch({
      onEvent: (event) => northEvents.push(event),
      onLost: () => undefined,
      onRestored: () => resolve(),
    });
  });
  await restored;
  const northShell = shells.get("north-1");
  if (northShell === undefined) throw new Error("no shell");
  direct = await RpcConnection.open(await sshDialer(northShell)(), { uri: "qemu:///system" });
  const note = (name: EventName) => () => void eventNames.add(name);
  const listeners = Object.keys(events).map((name) => [name, note(name as EventName)]);
  await subscribe(direct, Object.fromEntries(listeners) as EventListeners);
  guest = openGuest(lab.layout, spec.name);
}, 180_000);

afterAll(async () => {
  await direct?.close();
  await north?.close();
  await south?.close();
  for (const shell of shells.values()) await shell.close();
  await down({ name: "libv" });
}, 60_000);

/** What virsh says inside a host. */
async function virsh(hostId: string, ...command: string[]): Promise<string> {
  const shell = shells.get(hostId);
  if (shell === undefined) throw new Error(`no shell to ${hostId}`);
  const { stdout, stderr, exitCode } = await shell.run(["virsh", "-q", ...command]);
  return exitCode === 0 ? stdout.trim() : `failed: ${stderr.trim()}`;
}

function part(file: string, name: string, format: "qcow2" | "raw") {
  const path = join(lab.imageDirectory, file);
  const sizeBytes = statSync(path).size;
  const capacityBytes = format === "qcow2" ? diskBytes : sizeBytes;
  return { name, format, sizeBytes, capacityBytes, open: () => createReadStream(path) };
}
const parts = () => [
  part("base.qcow2", "drover-base.qcow2", "qcow2"),
  part("kernel", "drover-kernel", "raw"),
  part("initrd", "drover-initrd", "raw"),
];

/** Looks until it is so, and gives what was seen last. */
async function eventually<T>(
  look: () => Promise<T>,
  isSo: (seen: T) => boolean,
  ms = 15_000,
): Promise<T> {
  const untilMs = Date.now() + ms;
  for (;;) {
    const seen = await look();
    if (isSo(seen) || Date.now() > untilMs) return seen;
    await sleep(100);
  }
}
const memTotalKib = async () =>
  Number(await guest.read("awk '/MemTotal/ {print $2}' /proc/meminfo"));

test("a host says what it is and what is free", async () => {
  const seen = await north.observe();
  expect(await virsh("north-1", "version")).toContain(`libvirt ${seen.libvirtVersion}`);
  expect(await virsh("north-1", "nodeinfo")).toMatch(new RegExp(`CPU\\(s\\): +${seen.cores}\n`));
  expect(seen.freeMemoryMib).toBeGreaterThan(100);
  expect(seen.poolFreeBytes).toBeGreaterThan(mib);
  expect(seen.accelerations).toContain("tcg");
});

describe("volumes", () => {
  test("arrive whole, and are recognised by libvirt", async () => {
    for (const host of [north, south]) {
      for (const wanted of parts()) await host.volumes.upload(wanted);
    }
    const base = await north.volumes.find("drover-base.qcow2");
    expect(base).toMatchObject({ capacityBytes: diskBytes, backing: undefined });
    const names = (await north.volumes.list()).map((volume) => volume.name);
    expect(names).toEqual(["drover-base.qcow2", "drover-initrd", "drover-kernel"]);
    const path = await virsh("north-1", "vol-path", "drover-base.qcow2", "--pool", "drover");
    const shell = shells.get("north-1");
    const sum = await shell?.run(["sha256sum", path]);
    const image = JSON.parse(readFileSync(join(lab.imageDirectory, "image.json"), "utf8"));
    expect(sum?.stdout.split(" ")[0]).toBe(image.sha256["base.qcow2"]);
  });

  test("that were cut off half-way count as absent, and are placed anew", async () => {
    const request = {
      name: "cut",
      format: "raw",
      sizeBytes: 4 * mib,
      capacityBytes: 4 * mib,
    } as const;
    const broken = () =>
      Readable.from(
        (function* () {
          yield Buffer.alloc(mib, 1);
          throw new Error("the file went away");
        })(),
      );
    await expect(north.volumes.upload({ ...request, open: broken })).rejects.toThrow("went away");
    expect(await north.volumes.find("cut")).toBeUndefined();
    expect((await north.volumes.list()).map((volume) => volume.name)).not.toContain("cut");
    const short = () => Readable.from([Buffer.alloc(mib, 1)]);
    await expect(north.volumes.upload({ ...request, open: short })).rejects.toMatchObject({
      code: "volume.size_mismatch",
    });
    const whole = () => Readable.from([Buffer.alloc(4 * mib, 1)]);
    await north.volumes.upload({ ...request, open: whole });
    expect(await north.volumes.find("cut")).toMatchObject({ capacityBytes: 4 * mib });
    await north.volumes.remove("cut");
    await north.volumes.remove("cut");
    expect(await north.volumes.find("cut")).toBeUndefined();
  });

  test("of a machine are overlays of exactly the base's size", async () => {
    for (const host of [north, south]) {
      await host.volumes.createOverlay({
        name: spec.diskVolume,
        backing: "drover-base.qcow2",
        capacityBytes: diskBytes,
      });
    }
    expect(await north.volumes.find(spec.diskVolume)).toMatchObject({
      capacityBytes: diskBytes,
      backing: "drover-base.qcow2",
    });
    const missing = { name: "x", backing: "nothing", capacityBytes: diskBytes };
    await expect(north.volumes.createOverlay(missing)).rejects.toMatchObject({
      code: "libvirt.no_volume",
    });
  });
});

describe("a machine", () => {
  test("boots with its size, disk and address", async () => {
    await north.startDomain(spec);
    expect(
      await guest.read("nproc; hostname; grep -c /work /proc/mounts; ip -4 -o address show eth0"),
    ).toMatch(/^1\nrank-0\n1\n.*10\.42\.0\.10\/24/);
    const seen = await north.findDomain(machineId);
    expect(seen).toMatchObject({
      id: machineId,
      name: spec.name,
      state: "running",
      ours: { environmentId: spec.environmentId, owner: "alice & bob", epoch: 3 },
      vcpus: 1,
      vcpusMax: 4,
      cpuPercent: 90,
      memoryTargetMib: 192,
      memoryMaxMib: 384,
    });
    expect(await virsh("north-1", "domstate", spec.name)).toBe("running");
    // A second start changes nothing.
    const boot = await guest.read("cat /proc/sys/kernel/random/boot_id");
    await north.startDomain(spec);
    expect(await guest.read("cat /proc/sys/kernel/random/boot_id")).toBe(boot);
  }, 60_000);

  test("is given memory and gives it back, as the guest sees it", async () => {
    /** Waits for the balloon, which moves page by page, and gives the guest's total then. */
    const settledAt = async (mib: number) => {
      const seen = await eventually(
        () => north.findDomain(machineId),
        (domain) => domain?.memoryMib === mib,
      );
      expect(seen).toMatchObject({ memoryMib: mib, memoryTargetMib: mib });
      return memTotalKib();
    };
    const before = await settledAt(192);
    await north.setMemory(machineId, 320);
    expect((await settledAt(320)) - before).toBe(128 * 1024);
    await north.setMemory(machineId, 192);
    expect(await settledAt(192)).toBe(before);
    expect(northEvents).toContainEqual({ kind: "balloon", machineId, memoryMib: 320 });
  }, 60_000);

  test("uses no more than its cap of a core, and virsh sees the same cap", async () => {
    /** Percent of a core that the machine used while the guest computed, and how fast the guest found itself. */
    const computing = async (cpuPercent: number) => {
      await north.setCpuPercent(machineId, cpuPercent);
      const startedAtMs = performance.now();
      const before = (await north.findDomain(machineId))?.cpuTimeMs ?? 0;
      const rounds = Number(await guest.read("speed 3000"));
      const after = (await north.findDomain(machineId))?.cpuTimeMs ?? 0;
      return { used: ((after - before) * 100) / (performance.now() - startedAtMs), rounds };
    };
    const fast = await computing(80);
    const slow = await computing(10);
    // A loaded machine may give less than the cap, never more; QEMU's own threads come on top.
    expect(slow.used).toBeLessThan(20);
    expect(slow.rounds).toBeLessThan(fast.rounds);
    await north.setCpuPercent(machineId, 20);
    expect((await north.findDomain(machineId))?.cpuPercent).toBe(20);
    const schedule = await virsh("north-1", "schedinfo", spec.name);
    expect(schedule).toMatch(/vcpu_quota +: 4000\n/);
    expect(schedule).toMatch(/vcpu_period +: 20000\n/);
    await north.setCpuPercent(machineId, 90);
  }, 90_000);

  test("gets a vCPU live, under one cap for both; what it gives back stays plugged but is not counted", async () => {
    await north.setVcpus(machineId, 2);
    const online = async () => Number(await guest.read("nproc"));
    expect(await eventually(online, (count) => count === 2)).toBe(2);
    expect(await north.findDomain(machineId)).toMatchObject({ vcpus: 2, cpuPercent: 90 });
    expect(await virsh("north-1", "schedinfo", spec.name)).toMatch(/global_quota +: 18000\n/);
    await north.setVcpus(machineId, 1);
    expect(await north.findDomain(machineId)).toMatchObject({ vcpus: 1, cpuPercent: 90 });
    await north.setVcpus(machineId, 2);
    expect(await north.findDomain(machineId)).toMatchObject({ vcpus: 2, cpuPercent: 90 });
    expect(await virsh("north-1", "vcpucount", spec.name, "--live", "--current")).toBe("2");
  }, 60_000);

  test("shows a change behind our back", async () => {
    await virsh("north-1", "setmem", spec.name, "256M", "--live");
    const seen = await eventually(
      () => north.findDomain(machineId),
      (domain) => domain?.memoryMib === 256,
    );
    expect(seen).toMatchObject({ memoryMib: 256, memoryTargetMib: 192 });
    await north.setMemory(machineId, 192);
  }, 30_000);

  test("speaks over its channel in both directions", async () => {
    const channel = await north.openChannel(machineId, "dev.drover.0");
    const reading = once(channel, "data");
    await guest.read("echo from-guest > /dev/virtio-ports/dev.drover.0");
    expect(String((await reading)[0])).toBe("from-guest\n");
    channel.write("from-shepherd\n");
    expect(await guest.read("head -n 1 /dev/virtio-ports/dev.drover.0")).toBe("from-shepherd");
    channel.destroy();
    await expect(north.openChannel(machineId, "dev.nothing")).rejects.toMatchObject({
      code: expect.stringMatching(/^libvirt\./),
    });
  }, 30_000);

  test("shows its serial console, and hangs up who had it open before", async () => {
    const first = await north.openConsole(machineId);
    // libvirt tells the one that is hung up that its stream failed
    const hungUp = new Promise((resolve) => {
      first.on("error", resolve);
      first.on("close", resolve);
    });
    const second = await north.openConsole(machineId);
    await hungUp;
    let heard = "";
    second.on("data", (chunk: Buffer) => {
      heard += chunk.toString("latin1");
    });
    await guest.read("echo from-the-console > /dev/ttyS0");
    const said = await eventually(
      async () => heard,
      (text) => text.includes("from-the-console"),
    );
    expect(said).toContain("from-the-console");
    second.destroy();
  }, 30_000);

  test("answers every question about itself in a form that decodes", async () => {
    const domain = domainOf(machineId);
    const flags = 0;
    const { stats } = await direct.call(remote.domainMemoryStats, { domain, maxStats: 20, flags });
    expect(stats.length).toBeGreaterThan(3);
    const block = await direct.call(remote.domainGetBlockInfo, { domain, path: "vda", flags });
    expect(block.capacityBytes).toBe(diskBytes);
    const job = await direct.call(remote.domainGetBlockJobInfo, { domain, path: "vda", flags });
    expect(job.found).toBe(false);
    const tune = { domain, disk: "vda", flags };
    const { count } = await direct.call(remote.domainGetBlockIoTune, { ...tune, count: 0 });
    const limits = await direct.call(remote.domainGetBlockIoTune, { ...tune, count });
    expect(numberIn(limits.parameters, "total_bytes_sec")).toBe(0);
    const bytes = { field: "total_bytes_sec", type: "ullong", value: 50_000_000 } as const;
    await direct.call(remote.domainSetBlockIoTune, { ...tune, parameters: [bytes] });
    expect(await virsh("north-1", "blkdeviotune", spec.name, "vda")).toMatch(
      /total_bytes_sec: 50000000/,
    );
    const none = { ...bytes, value: 0 };
    await direct.call(remote.domainSetBlockIoTune, { ...tune, parameters: [none] });
    const { metadata } = await direct.call(remote.domainGetMetadata, {
      domain,
      type: 2,
      uri: metadataUri,
      flags,
    });
    expect(metadata).toContain("alice &amp; bob");
    const { vcpus } = await direct.call(remote.domainGetVcpusFlags, { domain, flags: 1 });
    expect(vcpus).toBe(2);
    const nic = { domain, device: "dvt0a001", count: 6, flags };
    const nicParameters = await direct.call(remote.domainGetInterfaceParameters, nic);
    expect(numberIn(nicParameters.parameters, "inbound.average")).toBe(0);
    const leases = { domain, source: 0, flags };
    const { interfaces } = await direct.call(remote.domainInterfaceAddresses, leases);
    expect(interfaces).toEqual([]);
    const extra =
      "<channel type='unix'><target type='virtio' name='dev.extra'/><alias name='ua-extra'/></channel>";
    await direct.call(remote.domainAttachDeviceFlags, { domain, xml: extra, flags: 1 });
    await direct.call(remote.domainDetachDeviceAlias, { domain, alias: "ua-extra", flags: 1 });
    const bulk = await direct.call(remote.getAllDomainStats, {
      domains: [domain],
      stats: 0,
      flags: 1 << 29, // never wait for a job
    });
    const [record] = bulk.records;
    expect(record?.domain.uuid).toBe(machineId);
    expect(numberIn(record?.parameters ?? [], "balloon.maximum")).toBe(384 * 1024);
    expect(numberIn(record?.parameters ?? [], "net.count")).toBe(1);
    const cpus = { domain, count: 16, flags }; // more are refused
    const { parameters: quotas } = await direct.call(
      remote.domainGetSchedulerParametersFlags,
      cpus,
    );
    expect(numberIn(quotas, "global_quota")).toBe(18_000);
    const agent = { domain, command: "{}", timeoutS: 1, flags };
    await expect(direct.call(qemu.agentCommand, agent)).rejects.toMatchObject({
      code: "libvirt.unsupported_argument", // it has no agent's channel
    });
    const status = { domain, command: '{"execute":"query-status"}', flags };
    const { result } = await direct.call(qemu.monitorCommand, status);
    expect(JSON.parse(result)).toMatchObject({ return: { running: true } });
  }, 60_000);

  test("never takes the place of a domain that is not ours", async () => {
    const foreign =
      "<domain type='qemu'><name>drover-ring-rank-9</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>";
    const shell = shells.get("north-1");
    await shell?.run(["sh", "-c", "cat > /tmp/foreign.xml && virsh define /tmp/foreign.xml"], {
      input: foreign,
    });
    const rank9 = {
      ...spec,
      id: "0192f000-1111-7222-8333-00000000a009",
      name: "drover-ring-rank-9",
    };
    await expect(north.startDomain(rank9)).rejects.toMatchObject({ code: "machine.name_taken" });
    const found = await north.findDomainByName("drover-ring-rank-9");
    expect(found).toMatchObject({ state: "shut_off", ours: undefined });
    await expect(north.stopDomain(found?.id ?? "", { graceMs: 0 })).rejects.toMatchObject({
      code: "machine.not_ours",
    });
    expect(await virsh("north-1", "domstate", "drover-ring-rank-9")).toBe("shut off");
    expect((await north.listDomains()).map((domain) => domain.name).toSorted()).toEqual([
      spec.name,
      "drover-ring-rank-9",
    ]);
    await virsh("north-1", "undefine", "drover-ring-rank-9");
  }, 30_000);
});

describe("a move to another site's host", () => {
  const parameters = () => ({
    machineId,
    destinationAddress: hostOf(lab.layout, "south-1").address,
    copyDisk: true,
  });

  test("that is aborted leaves the machine running where it was", async () => {
    const { source, destination, prepared, leave } = await opened({ bandwidthMbps: 16 });
    const performing = source.perform(prepared, () => undefined);
    await Promise.all([
      expect(performing).rejects.toMatchObject({
        code: expect.stringMatching(/^libvirt\.(aborted|operation_failed)$/),
      }),
      sleep(1_500).then(() => source.abort()),
    ]);
    await destination.finish({ cookie: new Uint8Array(), cancelled: true });
    await source.confirm({ cookie: new Uint8Array(), cancelled: true });
    await leave();
    expect(await guest.read("hostname")).toBe("rank-0");
    expect(await south.findDomain(machineId)).toBeUndefined();
    expect(await north.findDomain(machineId)).toMatchObject({
      state: "running",
      vcpus: 2,
      cpuPercent: 90,
    });
    expect(await virsh("north-1", "schedinfo", spec.name)).toMatch(/global_quota +: 18000\n/);
  }, 90_000);

  /** Both halves, up to and including prepare. */
  async function opened(more: { bandwidthMbps?: number } = {}) {
    await south.volumes.remove(spec.diskVolume);
    await south.volumes.createOverlay({
      name: spec.diskVolume,
      backing: "drover-base.qcow2",
      capacityBytes: diskBytes,
    });
    const asked = { ...parameters(), ...more };
    const source = await north.migrateFrom(asked);
    const destination = await south.migrateTo(asked);
    const prepared = await destination.prepare(await source.begin());
    const leave = () => Promise.all([source.close(), destination.close()]);
    return { source, destination, prepared, leave };
  }

  test("whose shepherd dies during the copy goes on at the source, and nothing is left at the destination", async () => {
    const { source, prepared, leave } = await opened({ bandwidthMbps: 16 });
    const performing = source.perform(prepared, () => undefined);
    await Promise.all([
      expect(performing).rejects.toMatchObject({ code: "libvirt.disconnected" }),
      sleep(1_500).then(leave),
    ]);
    const gone = await eventually(
      () => south.findDomain(machineId),
      (domain) => domain === undefined,
    );
    expect(gone).toBeUndefined();
    expect(await guest.read("hostname")).toBe("rank-0");
    expect(await virsh("north-1", "domstate", spec.name)).toBe("running");
  }, 90_000);

  test("whose shepherd dies after the source was suspended is resumed at the source, once the destination has none", async () => {
    const boot = await guest.read("cat /proc/sys/kernel/random/boot_id");
    const { source, prepared, leave } = await opened();
    await source.perform(prepared, () => undefined);
    await leave();
    const gone = await eventually(
      () => south.findDomain(machineId),
      (domain) => domain === undefined,
    );
    expect(gone).toBeUndefined();
    expect(await north.findDomain(machineId)).toMatchObject({ state: "paused_migrating" });
    await north.resumeDomain(machineId);
    await north.resumeDomain(machineId);
    expect(await guest.read("cat /proc/sys/kernel/random/boot_id")).toBe(boot);
  }, 90_000);

  test("that is called off after the source was suspended goes on at the source", async () => {
    const { source, destination, prepared, leave } = await opened();
    await source.perform(prepared, () => undefined);
    const { cookie } = await destination.finish({ cookie: new Uint8Array(), cancelled: true });
    await source.confirm({ cookie, cancelled: true });
    await leave();
    expect(await south.findDomain(machineId)).toBeUndefined();
    expect(await north.findDomain(machineId)).toMatchObject({ state: "running" });
    expect(await guest.read("hostname")).toBe("rank-0");
  }, 90_000);

  test("copies disk and memory while it runs; the guest goes on there, and the source has nothing left", async () => {
    await guest.read(
      "head -c 3000000 /dev/urandom > /work/data; sync; sha256sum /work/data > /run/sum",
    );
    const boot = await guest.read("cat /proc/sys/kernel/random/boot_id");
    const channel = await north.openChannel(machineId, "dev.drover.0");
    channel.resume();
    const ended = once(channel, "close");
    const progress: MigrationProgress[] = [];
    const { source, destination, prepared, leave } = await opened();
    const performed = await source.perform(prepared, (seen) => progress.push(seen));
    expect((await north.findDomain(machineId))?.state).toBe("paused_migrating");
    const finished = await destination.finish({ cookie: performed, cancelled: false });
    await source.confirm({ cookie: finished.cookie, cancelled: false });
    await leave();
    await ended;
    expect(await north.findDomain(machineId)).toBeUndefined();
    expect(await virsh("north-1", "list", "--all", "--name")).toBe("");
    expect(await south.findDomain(machineId)).toMatchObject({
      state: "running",
      vcpus: 2,
      cpuPercent: 90,
      memoryTargetMib: 192,
      ours: { environmentId: spec.environmentId },
    });
    expect(await guest.read("cat /proc/sys/kernel/random/boot_id")).toBe(boot);
    expect(await guest.read("echo 3 > /proc/sys/vm/drop_caches; sha256sum -c /run/sum")).toBe(
      "/work/data: OK",
    );
    const last = progress.at(-1);
    expect(last).toMatchObject({ phase: "done", remainingBytes: 0 });
    expect(last?.downtimeMs).toBeGreaterThan(0);
    expect(last?.totalBytes).toBeGreaterThan(3_000_000);
    const there = await south.openChannel(machineId, "dev.drover.0");
    const reading = once(there, "data");
    await guest.read("echo again > /dev/virtio-ports/dev.drover.0");
    expect(String((await reading)[0])).toBe("again\n");
    there.destroy();
  }, 120_000);

  test("the machine can still be resized there", async () => {
    await south.setMemory(machineId, 256);
    await south.setCpuPercent(machineId, 60);
    const seen = await eventually(
      () => south.findDomain(machineId),
      (domain) => domain?.memoryMib === 256,
    );
    expect(seen).toMatchObject({ memoryMib: 256, cpuPercent: 60 });
  }, 30_000);
});

test("back at the first host: a shepherd that dies before the source was told finds both, and ends the suspended one", async () => {
  await north.volumes.remove(spec.diskVolume);
  await north.volumes.createOverlay({
    name: spec.diskVolume,
    backing: "drover-base.qcow2",
    capacityBytes: diskBytes,
  });
  const back = {
    machineId,
    destinationAddress: hostOf(lab.layout, "north-1").address,
    copyDisk: true,
  };
  const source = await south.migrateFrom(back);
  const destination = await north.migrateTo(back);
  const prepared = await destination.prepare(await source.begin());
  const performed = await source.perform(prepared, () => undefined);
  await destination.finish({ cookie: performed, cancelled: false });
  await Promise.all([source.close(), destination.close()]);
  expect(await north.findDomain(machineId)).toMatchObject({ state: "running" });
  expect(await south.findDomain(machineId)).toMatchObject({ state: "paused_migrating" });
  await south.stopDomain(machineId, { graceMs: 0 });
  expect(await south.findDomain(machineId)).toBeUndefined();
  expect(await guest.read("echo 3 > /proc/sys/vm/drop_caches; sha256sum -c /run/sum")).toBe(
    "/work/data: OK",
  );
}, 90_000);

test("a guest that does not read its channel stops the writer, and the connection outlives the daemon's patience", async () => {
  const channel = await north.openChannel(machineId, "dev.drover.0");
  let acceptedBytes = 0;
  const chunk = Buffer.alloc(16_384, "z");
  const flood = setInterval(() => {
    if (channel.writableNeedDrain) return;
    channel.write(chunk, () => {
      acceptedBytes += chunk.length;
    });
  }, 1);
  await sleep(35_000);
  clearInterval(flood);
  expect(channel.destroyed).toBe(false);
  expect(acceptedBytes).toBeLessThan(2 * mib);
  // The host itself answers all the while, and the guest gets everything once it reads.
  expect(await north.findDomain(machineId)).toMatchObject({ state: "running" });
  await guest.read(`head -c ${acceptedBytes} /dev/virtio-ports/dev.drover.0 | wc -c`);
  channel.destroy();
}, 90_000);

test("a machine that is stopped leaves nothing at libvirt", async () => {
  await north.stopDomain(machineId, { graceMs: 3_000 });
  await north.stopDomain(machineId, { graceMs: 3_000 });
  expect(await north.findDomain(machineId)).toBeUndefined();
  expect(await virsh("north-1", "list", "--all", "--name")).toBe("");
  for (const host of [north, south]) {
    for (const volume of await host.volumes.list()) await host.volumes.remove(volume.name);
    expect(await host.volumes.list()).toEqual([]);
  }
  // Each of these came at least once and decoded: else their connection would be gone.
  expect(direct.isOpen).toBe(true);
  expect([...eventNames]).toEqual(
    expect.arrayContaining([
      "lifecycle",
      "balloonChange",
      "tunable",
      "deviceAdded",
      "deviceRemoved",
      "blockJob",
      "migrationIteration",
      "jobCompleted",
    ]),
  );
  const kinds = northEvents
    .filter((event) => event.machineId === machineId)
    .map((event) => event.kind);
  expect(kinds.filter((kind) => kind !== "balloon")).toEqual(
    expect.arrayContaining(["defined", "started", "resumed", "suspended", "stopped"]),
  );
}, 60_000);
