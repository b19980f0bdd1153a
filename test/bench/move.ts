/**
 * Moves one machine to and fro between two sites of a lab (root), by the shepherd's host and by `virsh migrate` in turn:
 * how long the guest stood still, by its own ticker, and how long the move took. Run with `node test/bench/move.ts`.
 */
import { execFile } from "node:child_process";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { loadConfiguration } from "@drover/shepherd/configuration/configuration";
import { labChannel, openGuest } from "@drover/shepherd/lab/guest-shell";
import { libvirtSocket } from "@drover/shepherd/lab/host";
import { down, up } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { createLibvirtHost } from "@drover/shepherd/libvirt/host";
import { sshDialer } from "@drover/shepherd/libvirt/rpc/transports/ssh";
import type { DomainSpec, Host } from "@drover/shepherd/ports/host";
import { createSshShell } from "@drover/shepherd/shell/ssh";
import { systemClock } from "@drover/shepherd/system";

const name = "bmove";
const rounds = 6;
const diskBytes = 128 * 2 ** 20;
const execute = promisify(execFile);

const lab = await up({ name });
const closers: (() => Promise<void>)[] = [() => down({ name }).then(() => undefined)];
try {
  const [north, south] = ["north-1", "south-1"].map(connect) as [Host, Host];
  const spec: DomainSpec = {
    id: "0192f000-1111-7222-8333-00000000b001",
    name: "drover-bench-rank-0",
    environmentId: "0192f000-1111-7222-8333-00000000e001",
    owner: "bench",
    epoch: 1,
    vcpus: 1,
    vcpusMax: 1,
    cpuPercent: 60,
    memoryMib: 192,
    memoryMaxMib: 192,
    boot: { kernelVolume: "kernel", initrdVolume: "initrd", cmdline: "console=ttyS0 quiet" },
    diskVolume: "disk.qcow2",
    nics: [],
    channels: [labChannel],
  };
  const guest = openGuest(lab.layout, spec.name);
  for (const host of [north, south]) {
    await place(host, "base.qcow2");
    await place(host, "kernel");
    await place(host, "initrd");
  }
  await freshDisk(north, spec);
  await north.startDomain(spec);
  await guest.read("head -c 8000000 /dev/urandom > /work/data; sync");

  for (const load of ["idle", "writing all the time"]) {
    if (load !== "idle") {
      const writer = "while :; do head -c 8000000 /dev/urandom > /dev/shm/x; done";
      await guest.read(`(${writer}) >/dev/null 2>&1 & true`);
    }
    const results = { shepherd: [] as Result[], virsh: [] as Result[] };
    let [from, to] = (await north.findDomain(spec.id)) ? [north, south] : [south, north];
    for (let round = 0; round < rounds; round += 1) {
      for (const who of ["shepherd", "virsh"] as const) {
        await freshDisk(to, spec);
        await guest.read("echo > /run/ticker.reset; sleep 1.2");
        const startMs = performance.now();
        await (who === "shepherd" ? move(from, to, spec) : virshMigrate(from, to, spec));
        const totalMs = performance.now() - startMs;
        [from, to] = [to, from];
        const figures = await guest.read("sleep 1.5; cat /run/ticker");
        results[who].push({ stopMs: Number(figures.split(" ")[1]), totalMs });
      }
    }
    const ratio = median(results.shepherd, "stopMs") / median(results.virsh, "stopMs");
    console.log(`guest ${load}:`);
    for (const [who, of] of Object.entries(results)) {
      const stops = of.map((result) => Math.round(result.stopMs)).toSorted((a, b) => a - b);
      const total = Math.round(median(of, "totalMs"));
      console.log(
        `  ${who.padEnd(9)} stood still for ${stops.join(", ")} ms; whole move p50 ${total} ms`,
      );
    }
    console.log(`  ratio of the medians ${ratio.toFixed(2)}`);
  }
} finally {
  for (const close of closers.toReversed()) await close();
}

interface Result {
  readonly stopMs: number;
  readonly totalMs: number;
}

function median(results: readonly Result[], what: keyof Result): number {
  const sorted = results.map((result) => result[what]).toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function connect(id: string): Host {
  const { sites } = loadConfiguration(lab.configurationFile);
  const host = sites.flatMap((site) => site.hosts).find((candidate) => candidate.id === id);
  if (host?.ssh === undefined) throw new Error(`no host ${id}`);
  const target = { ...host.ssh, privateKey: readFileSync(host.ssh.keyFile), jump: undefined };
  const shell = createSshShell({ hostId: id, target });
  const made = createLibvirtHost({
    id,
    dial: sshDialer(shell),
    pool: host.pool,
    clock: systemClock,
  });
  closers.push(
    () => shell.close(),
    () => made.close(),
  );
  return made;
}

async function place(host: Host, file: string): Promise<void> {
  const path = join(lab.imageDirectory, file);
  const sizeBytes = statSync(path).size;
  const open = () => createReadStream(path);
  await host.volumes.upload({
    name: file,
    format: "raw",
    sizeBytes,
    capacityBytes: sizeBytes,
    open,
  });
}

async function freshDisk(host: Host, spec: DomainSpec): Promise<void> {
  await host.volumes.remove(spec.diskVolume);
  const overlay = { name: spec.diskVolume, backing: "base.qcow2", capacityBytes: diskBytes };
  await host.volumes.createOverlay(overlay);
}

async function move(from: Host, to: Host, spec: DomainSpec): Promise<void> {
  const destinationAddress = hostOf(lab.layout, to.id).address;
  const parameters = { machineId: spec.id, destinationAddress, copyDisk: true };
  const source = await from.migrateFrom(parameters);
  const destination = await to.migrateTo(parameters);
  const prepared = await destination.prepare(await source.begin());
  const performed = await source.perform(prepared, () => undefined);
  const { cookie } = await destination.finish({ cookie: performed, cancelled: false });
  await source.confirm({ cookie, cancelled: false });
  await Promise.all([source.close(), destination.close()]);
}

async function virshMigrate(from: Host, to: Host, spec: DomainSpec): Promise<void> {
  const uri = (host: Host) =>
    `qemu+unix:///system?socket=${libvirtSocket(hostOf(lab.layout, host.id))}`;
  const how = ["--live", "--copy-storage-inc", "--persistent", "--undefinesource"];
  const address = `tcp://${hostOf(lab.layout, to.id).address}`;
  const where = ["--migrateuri", address, spec.name, uri(to)];
  await execute("virsh", ["-q", "-c", uri(from), "migrate", ...how, ...where]);
}
