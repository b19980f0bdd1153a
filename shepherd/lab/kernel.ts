/**
 * The guests' kernel: Debian's cloud kernel, taken out of its package and never installed on this machine. Finds the
 * real package behind the meta package, keeps what it unpacked in the cache. Knows nothing of what else is in the image.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { must, run } from "#lab/process";
import { Fault } from "#model/fault";

const metaPackage = "linux-image-cloud-amd64";

/** What the guests need, in loading order where modules do not say it themselves (virtio_pci before its devices). */
const wantedModules = [
  "virtio_pci",
  "virtio_net",
  "virtio_blk",
  "virtio_balloon",
  "virtio_console",
  "virtio_mem",
  "virtio-rng",
  "button",
  "evdev",
  "ext4",
];

export interface GuestKernel {
  /** Package name and version, part of the image's content hash. */
  readonly version: string;
  readonly file: string;
  /** Module files in loading order. */
  readonly modules: readonly string[];
}

/** The cached kernel, else the newest one that apt offers. Fault `lab.prerequisite_missing` when apt has none. */
export async function fetchKernel(options: {
  readonly cacheDirectory: string;
  readonly onProgress?: (line: string) => void;
}): Promise<GuestKernel> {
  const folder = join(options.cacheDirectory, "kernel");
  if (!existsSync(folder)) {
    const fresh = `${folder}.new`;
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(join(fresh, "package"), { recursive: true });
    const name = await realPackage(options.onProgress);
    options.onProgress?.(`guest kernel: fetching ${name}`);
    await must(["apt-get", "download", "-o", "APT::Sandbox::User=root", name], {
      cwd: join(fresh, "package"),
      timeoutMs: 600_000,
    });
    const [archive = ""] = readdirSync(join(fresh, "package"));
    await must(["dpkg", "-x", join(fresh, "package", archive), join(fresh, "root")]);
    renameSync(fresh, folder); // whole or not at all
  }
  return readKernel(folder);
}

/** Modules beyond the guests' own, dependencies first: `base` is what the guest image has already. */
export async function fetchModules(
  names: readonly string[],
  cacheDirectory = "/var/cache/drover",
): Promise<{ readonly base: readonly string[]; readonly extra: readonly string[] }> {
  const { modules: base } = await fetchKernel({ cacheDirectory });
  const folder = modulesFolder(join(cacheDirectory, "kernel"));
  const all = loadingOrder(folder, [...wantedModules, ...names]);
  return { base, extra: all.filter((path) => !base.includes(path)) };
}

function modulesFolder(folder: string): string {
  const modules = join(folder, "root/lib/modules");
  return join(modules, readdirSync(modules)[0] ?? "", "kernel");
}

function readKernel(folder: string): GuestKernel {
  const [archive = ""] = readdirSync(join(folder, "package"));
  const boot = join(folder, "root/boot");
  const image = readdirSync(boot).find((name) => name.startsWith("vmlinuz-"));
  if (image === undefined)
    throw new Fault("lab.prerequisite_missing", {
      what: "a guest kernel",
      problem: `${folder} holds none; remove that folder`,
    });
  const modules = join(folder, "root/lib/modules", image.replace("vmlinuz-", ""), "kernel");
  return {
    version: basename(archive, ".deb"),
    file: join(boot, image),
    modules: loadingOrder(modules),
  };
}

/** Dependencies first, as each module's own `depends=` says. What is not there as a file is built into the kernel. */
function loadingOrder(folder: string, wanted = wantedModules): readonly string[] {
  const files = new Map(
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ko"))
      .toSorted()
      .map((path) => [moduleName(path), join(folder, path)]),
  );
  const ordered = new Set<string>();
  const visit = (name: string): void => {
    const file = files.get(moduleName(name));
    if (file === undefined || ordered.has(file)) return;
    for (const dependency of dependsOf(readFileSync(file))) visit(dependency);
    ordered.add(file);
  };
  wanted.forEach(visit);
  return [...ordered];
}

/** The kernel takes - and _ in a module's name for the same. */
function moduleName(path: string): string {
  return basename(path, ".ko").replaceAll("-", "_");
}

function dependsOf(module: Buffer): readonly string[] {
  const mark = Buffer.from("\0depends=");
  const at = module.indexOf(mark);
  if (at < 0) return [];
  const from = at + mark.length;
  const list = module.subarray(from, module.indexOf(0, from)).toString();
  return list === "" ? [] : list.split(",");
}

async function realPackage(say?: (line: string) => void): Promise<string> {
  const ask = async () =>
    /Depends: (linux-image-[0-9][^ \n]*)/.exec(
      (await run(["apt-cache", "depends", metaPackage])).stdout,
    )?.[1];
  const known = await ask();
  if (known !== undefined) return known;
  say?.("guest kernel: apt-get update");
  await must(["apt-get", "update", "-q"], { timeoutMs: 600_000 });
  const found = await ask();
  if (found === undefined)
    throw new Fault("lab.prerequisite_missing", {
      what: `Debian's package ${metaPackage}`,
      problem: "apt does not know it; the lab needs Debian 12 or newer",
    });
  return found;
}
