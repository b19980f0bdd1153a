/**
 * Builds the guests' image: kernel, initial RAM disk (busybox, modules, the guest's programs) and a small base disk.
 * The same inputs give the same bytes, and the folder is named by a hash of the inputs, so that a build happens once.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { type CpioEntry, cpioArchive } from "#lab/cpio";
import { fetchSshd, type GuestSshd } from "#lab/guest-sshd";
import { fetchKernel, type GuestKernel } from "#lab/kernel";
import { must } from "#lab/process";

/** Kept over `down`: the kernel's package and the images that were built. */
export const defaultCacheDirectory = "/var/cache/drover";

/** Counts changes of this builder that its inputs do not show. */
const builderVersion = 3;
/** What the base disk offers; an overlay is as large. */
const diskMib = 128;
/** Data that a moved disk is checked by. */
const seedMib = 8;

const guest = join(import.meta.dirname, "guest");
const repository = join(import.meta.dirname, "../..");
const programs: readonly {
  readonly name: string;
  readonly source: string;
  readonly libraries?: readonly string[];
}[] = [
  ...["lab-agent", "onliner", "ticker", "speed", "pinger", "stream", "frame"].map((name) => ({
    name,
    source: join(guest, `${name}.c`),
  })),
  {
    name: "ring",
    source: join(repository, "stacks/examples/ring/program/ring.c"),
    libraries: ["-lm"],
  },
];
const guestScript = join(repository, "shepherd/intake/guest/drover-guest");

export interface ImageFiles {
  readonly directory: string;
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
}
export function imageFiles(directory: string): ImageFiles {
  return {
    directory,
    disk: join(directory, "base.qcow2"),
    kernel: join(directory, "kernel"),
    initrd: join(directory, "initrd"),
  };
}

/** Folder with base.qcow2, kernel, initrd, image.json. Faults `lab.command_failed` and `lab.prerequisite_missing`. */
export async function buildImage(
  options: { readonly cacheDirectory?: string; readonly onProgress?: (line: string) => void } = {},
): Promise<string> {
  const cacheDirectory = options.cacheDirectory ?? defaultCacheDirectory;
  mkdirSync(cacheDirectory, { recursive: true });
  const from = {
    cacheDirectory,
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  };
  const kernel = await fetchKernel(from);
  const sshd = await fetchSshd(from);
  const busybox = await findBusybox();
  const hash = inputsHash({ kernel, sshd, busybox });
  const directory = join(cacheDirectory, `image-${hash}`);
  if (existsSync(directory)) return directory;
  options.onProgress?.(`guest image: building ${directory} (${kernel.version})`);
  removeUnfinished(cacheDirectory);
  const fresh = mkdtempSync(`${directory}.new-`);
  try {
    copyFileSync(kernel.file, join(fresh, "kernel"));
    writeFileSync(
      join(fresh, "initrd"),
      await buildInitrd({ kernel, sshd, busybox, scratch: fresh }),
    );
    await buildDisk(fresh);
    writeFileSync(
      join(fresh, "image.json"),
      `${JSON.stringify({ inputs: hash, kernel: kernel.version, sha256: checksums(fresh) }, null, 2)}\n`,
    );
    if (!existsSync(directory)) renameSync(fresh, directory); // whole or not at all; another build may have been faster
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return directory;
}

/** Folders of builds that were killed; a build takes seconds, so one of an hour ago is nobody's. */
function removeUnfinished(cacheDirectory: string): void {
  for (const name of readdirSync(cacheDirectory)) {
    const folder = join(cacheDirectory, name);
    if (name.includes(".new-") && statSync(folder).mtimeMs < Date.now() - 3_600_000)
      rmSync(folder, { recursive: true, force: true });
  }
}

async function findBusybox(): Promise<string> {
  return (await must(["sh", "-c", "command -v busybox"])).trim();
}

interface Parts {
  readonly kernel: GuestKernel;
  readonly sshd: GuestSshd | undefined;
  readonly busybox: string;
}

function inputsHash({ kernel, sshd, busybox }: Parts): string {
  const hash = createHash("sha256").update(
    `${builderVersion} ${kernel.version} ${diskMib} ${seedMib} ${sshd?.version ?? ""}\n`,
  );
  for (const file of [
    busybox,
    join(guest, "init"),
    join(guest, "udhcpc"),
    guestScript,
    ...programs.map((program) => program.source),
  ])
    hash.update(`${basename(file)}\n`).update(readFileSync(file));
  for (const { path, data } of sshd?.files ?? []) hash.update(`${path}\n`).update(data);
  return hash.digest("hex").slice(0, 16);
}

async function buildInitrd(parts: Parts & { readonly scratch: string }): Promise<Buffer> {
  const folders = [
    "bin",
    "dev",
    "etc",
    "etc/acpi",
    "etc/acpi/PWRF",
    "etc/dropbear",
    "lib",
    "lib/modules",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/sbin",
    "work",
  ];
  const applets = (await must([parts.busybox, "--list"]))
    .split("\n")
    .filter((name) => name !== "" && name !== "busybox");
  const file = (path: string, data: Uint8Array | string, executable = false): CpioEntry => ({
    path,
    kind: "file",
    data: Buffer.from(data),
    executable,
  });
  const compiled: CpioEntry[] = [];
  for (const program of programs) {
    const output = join(parts.scratch, program.name);
    await must([
      "gcc",
      "-static",
      "-O2",
      "-Wall",
      "-s",
      "-Wl,--build-id=none",
      "-o",
      output,
      program.source,
      ...(program.libraries ?? []),
    ]);
    compiled.push(file(`usr/bin/${program.name}`, readFileSync(output), true));
    rmSync(output);
  }
  const archive = cpioArchive([
    ...folders.map((path): CpioEntry => ({ path, kind: "folder" })),
    file("init", readFileSync(join(guest, "init")), true),
    file("bin/busybox", readFileSync(parts.busybox), true),
    ...applets.map((name): CpioEntry => ({ path: `bin/${name}`, kind: "link", target: "busybox" })),
    file("etc/udhcpc", readFileSync(join(guest, "udhcpc")), true),
    file(
      "etc/acpi/PWRF/00000080",
      "#!/bin/sh\nsync\nmount -o remount,ro /work 2>/dev/null\npoweroff -f\n",
      true,
    ),
    file("etc/passwd", "root::0:0:root:/root:/bin/sh\n"),
    file("etc/group", "root:x:0:\n"),
    file("lib/modules/order", parts.kernel.modules.map((path) => `${basename(path)}\n`).join("")),
    ...parts.kernel.modules.map((path) =>
      file(`lib/modules/${basename(path)}`, readFileSync(path)),
    ),
    file("usr/bin/drover-guest", readFileSync(guestScript), true),
    ...(parts.sshd?.files ?? []).map(({ path, data }) => file(path, data, true)),
    ...compiled,
  ]);
  return gzipSync(archive, { level: 9 });
}

/** An ext4 file system with fixed identifiers and times, and in it some data whose checksum is known. */
async function buildDisk(folder: string): Promise<void> {
  const root = join(folder, "root");
  mkdirSync(root);
  const seed = seedData();
  writeFileSync(join(root, "seed.bin"), seed);
  writeFileSync(
    join(root, "seed.sha256"),
    `${createHash("sha256").update(seed).digest("hex")}  seed.bin\n`,
  );
  for (const path of ["seed.bin", "seed.sha256", ""]) utimesSync(join(root, path), 1, 1);
  const raw = join(folder, "disk.raw");
  const fakeTime = { E2FSPROGS_FAKE_TIME: "1", SOURCE_DATE_EPOCH: "1" };
  const identifiers = [
    "-U",
    "d0d0d0d0-0000-4000-8000-000000000001",
    "-E",
    "hash_seed=d0d0d0d0-0000-4000-8000-000000000002,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
  ];
  await must(["mkfs.ext4", "-q", "-L", "work", ...identifiers, "-d", root, raw, `${diskMib}M`], {
    env: fakeTime,
  });
  // mkfs copies each file's change time, which no call can set
  const times = ["seed.bin", "seed.sha256"].flatMap((name) =>
    [
      "ctime @1",
      "ctime_extra 0",
      "atime @1",
      "atime_extra 0",
      "mtime_extra 0",
      "crtime_extra 0",
    ].map((field) => `set_inode_field ${name} ${field}\n`),
  );
  const commands = join(folder, "debugfs");
  writeFileSync(commands, times.join(""));
  await must(["debugfs", "-w", "-f", commands, raw], { env: fakeTime });
  rmSync(commands);
  await must(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, join(folder, "base.qcow2")]);
  rmSync(raw);
  rmSync(root, { recursive: true });
}

/** Bytes that do not compress, the same everywhere. */
function seedData(): Buffer {
  const blocks = (seedMib << 20) / 32;
  return Buffer.concat(
    Array.from({ length: blocks }, (_, index) =>
      createHash("sha256").update(`drover seed ${index}`).digest(),
    ),
  );
}

function checksums(folder: string): Record<string, string> {
  return Object.fromEntries(
    ["base.qcow2", "kernel", "initrd"].map((name) => [
      name,
      createHash("sha256")
        .update(readFileSync(join(folder, name)))
        .digest("hex"),
    ]),
  );
}
