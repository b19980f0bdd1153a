/**
 * The router guest: a small machine with a stock kernel between the sites, whose cards are shaped by netem, for machines
 * whose own kernel has none. It is the lab's guest image with a few modules and tc beside it, emulated (no KVM needed),
 * and started by hand in the router's namespace: it belongs to the WAN, not to a host. Commands reach it over the lab's
 * channel, so that a path may be cut without cutting the command that mends it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { type CpioEntry, cpioArchive } from "#lab/cpio";
import { askChannel, labChannel } from "#lab/guest-shell";
import { imageFiles } from "#lab/image";
import { fetchModules } from "#lab/kernel";
import type { LabLayout } from "#lab/layout";
import { must, type ProcessIdentity, startDaemon } from "#lab/process";
import { inNamespace } from "#lab/wires";
import { Fault } from "#model/fault";

/** What the WAN needs of the stock kernel beyond what every guest has. */
const routerModules = ["sch_htb", "sch_netem", "cls_u32"];
const memoryMib = 192;
/** An emulated boot of about 4 s, on a busy machine. */
const bootTimeoutMs = 120_000;

/** The router's card at a site: its tap in the router's namespace, the address that hosts send to, and its name inside. */
export function routerCards(layout: LabLayout): readonly {
  readonly siteId: string;
  readonly tap: string;
  readonly address: string;
  readonly mac: string;
  readonly device: string;
}[] {
  return layout.sites.map((site, index) => ({
    siteId: site.id,
    tap: `dw-${site.id}`,
    address: site.routerGuest,
    mac: `52:54:00:77:00:${(index + 1).toString(16).padStart(2, "0")}`,
    device: `eth${index}`,
  }));
}

/** Starts it and waits until it routes. Fault `lab.guest_silent` names its console. */
export async function startRouter(
  layout: LabLayout,
  imageDirectory: string,
): Promise<ProcessIdentity> {
  const cards = routerCards(layout);
  const folder = layout.stateDirectory;
  const image = imageFiles(imageDirectory);
  const initrd = join(folder, "wan-initrd");
  writeFileSync(
    initrd,
    Buffer.concat([readFileSync(image.initrd), await extraInitrd(image.initrd)]),
  );
  await must([...inNamespace(layout.routerNamespace), "ip", "-batch", "-"], {
    input: cards
      .flatMap((card, index) => [
        `tuntap add dev ${card.tap} mode tap vnet_hdr`,
        `link set ${card.tap} master ${layout.sites[index]?.bridge ?? ""} up`,
      ])
      .map((line) => `${line}\n`)
      .join(""),
  });
  const append = [
    "console=ttyS0 quiet drover.name=wan",
    ...cards.map((card) => `drover.ip=${card.address}/24@${card.mac}`),
  ].join(" ");
  const socket = routerSocket(folder);
  const identity = startDaemon(
    [
      ...inNamespace(layout.routerNamespace),
      "qemu-system-x86_64",
      ...words(`-name drover-${layout.name}-wan -nodefaults -no-user-config -display none`),
      ...words(`-machine q35,accel=tcg -cpu qemu64 -m ${memoryMib}`),
      "-serial",
      `file:${join(folder, "wan-console.log")}`,
      "-kernel",
      image.kernel,
      "-initrd",
      initrd,
      "-append",
      append,
      "-chardev",
      `socket,id=lab,path=${socket},server=on,wait=off`,
      ...words(`-device virtio-serial-pci -device virtserialport,chardev=lab,name=${labChannel}`),
      ...cards.flatMap((card, index) =>
        words(
          `-netdev tap,id=net${index},ifname=${card.tap},script=no,downscript=no,vnet_hdr=on ` +
            `-device virtio-net-pci,netdev=net${index},mac=${card.mac}`,
        ),
      ),
    ],
    { logFile: join(folder, "wan-qemu.log") },
  );
  await inRouter(folder, "echo 1 >/proc/sys/net/ipv4/ip_forward", bootTimeoutMs);
  return identity;
}

/** A shell command in the router; its output. Faults `lab.guest_silent`, `lab.command_failed`. */
export async function inRouter(
  stateDirectory: string,
  command: string,
  timeoutMs = 30_000,
): Promise<string> {
  const result = await askChannel(routerSocket(stateDirectory), { command, timeoutMs });
  if (result === undefined)
    throw new Fault("lab.guest_silent", { machine: "wan (the router guest)", timeoutMs });
  if (result.code !== 0)
    throw new Fault("lab.command_failed", {
      command: `wan: ${command.slice(0, 200)}`,
      exitCode: result.code,
      problem: result.stdout.trim().split("\n").slice(-5).join("; "),
    });
  return result.stdout;
}

function routerSocket(stateDirectory: string): string {
  return join(stateDirectory, "wan.sock");
}

function words(text: string): readonly string[] {
  return text.split(" ");
}

/** A second archive: the kernel unpacks one after the other, and a later file takes the place of an earlier one. */
async function extraInitrd(initrd: string): Promise<Buffer> {
  const { base, extra } = await fetchModules(routerModules);
  const program = (await must(["sh", "-c", "command -v tc"])).trim();
  const libraries = [...(await must(["ldd", program])).matchAll(/(\/\S+\.so\S*) \(0x/g)].map(
    (match) => match[1] ?? "",
  );
  const files = [program, ...libraries];
  const folders = new Set(
    files.flatMap((path) => {
      const parts = path.split("/").slice(1, -1);
      return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
    }),
  );
  const entries: CpioEntry[] = [
    ...[...folders].toSorted().map((path): CpioEntry => ({ path, kind: "folder" })),
    ...files.map(
      (path): CpioEntry => ({
        // busybox has an applet of that name, which its shell prefers: called by its path
        path: path === program ? "usr/bin/tc" : path.slice(1),
        kind: "file",
        data: readFileSync(path),
        executable: true,
      }),
    ),
    ...extra.map(
      (path): CpioEntry => ({
        path: `lib/modules/${basename(path)}`,
        kind: "file",
        data: readFileSync(path),
        executable: false,
      }),
    ),
    {
      path: "lib/modules/order",
      kind: "file",
      data: Buffer.from([...base, ...extra].map((path) => `${basename(path)}\n`).join("")),
      executable: false,
    },
  ];
  // Archives that follow each other begin at a multiple of four bytes.
  const padding = Buffer.alloc((4 - (readFileSync(initrd).length % 4)) % 4);
  return Buffer.concat([padding, gzipSync(cpioArchive(entries), { level: 1 })]);
}
