/**
 * A host's namespaces under cgroup v2 alone, as most machines have it, whatever this machine has: the lab's own script
 * runs in a virtual machine with the guests' kernel, and a child cgroup gets a CPU cap as libvirt would set it.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { type CpioEntry, cpioArchive } from "@drover/shepherd/lab/cpio";
import { insideHost } from "@drover/shepherd/lab/host";
import { buildImage, imageFiles } from "@drover/shepherd/lab/image";
import { run } from "@drover/shepherd/lab/process";
import { afterAll, beforeAll, expect, test } from "@jest/globals";

const script = join(import.meta.dirname, "../../shepherd/lab/host-world.sh");
/** The machine's own programs, because busybox's know no cgroup namespace. */
const programs = [
  "dash",
  "unshare",
  "mount",
  "nsenter",
  "ip",
  "hostname",
  "sed",
  "cat",
  "mkdir",
  "sleep",
];

/** First process: a machine as systemd leaves it (v2 only, everybody in a leaf), then the script, then questions. */
const init = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs run /run
export PATH=/own:/usr/bin:/bin
exec /own/dash /story
`;
const story = (inside: string) => `mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/user /lab/run /lab/lib /lab/etc /lab/log /lab/cache /run/netns
echo $$ >/sys/fs/cgroup/user/cgroup.procs
echo "127.0.0.1 localhost" >/lab/hosts
cat /etc/passwd >/lab/passwd
: >/etc/hosts
ip netns add host
nsenter --net=/run/netns/host -- sh /host-world.sh /lab north-1 drover-lab/north-1 '' &
n=0
while [ ! -e /lab/ready ] && [ $n -lt 100 ]; do sleep 0.2; n=$((n + 1)); done
read -r anchor </sys/fs/cgroup/drover-lab/north-1/daemons/cgroup.procs
${inside} dash /questions
poweroff -f
`;
const questions = `echo "name: $(hostname)"
read -r placed </proc/self/cgroup
echo "placed: $placed"
echo "controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
echo "+cpu +cpuset +memory +io +pids" >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/machine/guest
echo "+cpu" >/sys/fs/cgroup/machine/cgroup.subtree_control
echo "10000 100000" >/sys/fs/cgroup/machine/guest/cpu.max
echo "free: $(speed 2000)"
echo "capped: $(dash -c 'echo $$ >/sys/fs/cgroup/machine/guest/cgroup.procs; exec speed 2000')"
`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-v2-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(path: string, data: Uint8Array | string): CpioEntry {
  return { path, kind: "file", data: Buffer.from(data), executable: true };
}

/** The programs and every library they name, with the folders that hold them. */
function ownPrograms(): readonly CpioEntry[] {
  const paths = programs.map((name) =>
    execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim(),
  );
  const libraries = paths.flatMap(
    (path) => execFileSync("ldd", [path], { encoding: "utf8" }).match(/\/\S+/g) ?? [],
  );
  const folders = new Set<string>(["own"]);
  for (const library of libraries) {
    const parts = dirname(library).split("/").slice(1);
    for (const index of parts.keys()) folders.add(parts.slice(0, index + 1).join("/"));
  }
  return [
    ...[...folders].map((path): CpioEntry => ({ path, kind: "folder" })),
    ...[...new Set(libraries)].map((library) =>
      file(library.slice(1), readFileSync(realpathSync(library))),
    ),
    ...paths.map((path, index) => file(`own/${programs[index]}`, readFileSync(realpathSync(path)))),
    { path: "own/sh", kind: "link", target: "dash" },
  ];
}

test("under cgroup v2 a host has controllers of its own, enters its cgroups, and a CPU cap in it holds", async () => {
  const image = imageFiles(await buildImage());
  // the same words that reach a host from outside, with the anchor's id as the script finds it
  const inside = insideHost({ pid: 0, startTicks: "0" })
    .map((word) => (word === "--target=0" ? '"--target=$anchor"' : `'${word}'`))
    .join(" ");
  const initrd = join(folder, "initrd");
  const more = cpioArchive([
    ...ownPrograms(),
    file("init", init),
    file("story", story(inside)),
    file("questions", questions),
    file("host-world.sh", readFileSync(script)),
  ]);
  writeFileSync(initrd, Buffer.concat([readFileSync(image.initrd), gzipSync(more, { level: 1 })])); // the kernel unpacks one after the other
  const booted = await run(
    [
      "qemu-system-x86_64",
      "-M",
      "q35",
      "-cpu",
      "qemu64",
      "-m",
      "512",
      "-nographic",
      "-nic",
      "none",
      "-no-reboot",
      "-kernel",
      image.kernel,
      "-initrd",
      initrd,
      "-append",
      "console=ttyS0 quiet",
    ],
    { timeoutMs: 150_000 },
  );
  const said = new Map(
    [
      ...booted.stdout.matchAll(
        /^(?:.*\u001b\S+?)?(name|placed|controllers|free|capped): (.*?)\r?$/gm,
      ),
    ].map((match) => [match[1], match[2]]),
  );
  expect({
    name: said.get("name"),
    placed: said.get("placed"),
    controllers: said.get("controllers"),
  }).toEqual({
    name: "north-1",
    placed: "0::/daemons",
    controllers: "cpuset cpu io memory pids",
  });
  expect(Number(said.get("capped"))).toBeGreaterThan(0);
  expect(Number(said.get("capped"))).toBeLessThan(Number(said.get("free")) / 2);
});
