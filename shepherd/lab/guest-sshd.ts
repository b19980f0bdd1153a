/**
 * The guests' SSH server: Debian's dropbear with the libraries that it needs, taken out of their packages and never
 * installed on this machine. Where the packages are not to be had the guests have none, and only `drover ssh` misses it.
 * Knows nothing of what else is in the image.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { must } from "#lab/process";
import { isFault } from "#model/fault";

/** Libraries that this machine has anyway are taken from it. */
const packages = ["dropbear-bin", "libtomcrypt1", "libtommath1"];
const libraryFolder = "usr/lib/x86_64-linux-gnu";

export interface GuestSshd {
  /** Packages and versions, part of the image's content hash. */
  readonly version: string;
  /** What goes where in the guest; `data` of programs and libraries alike. */
  readonly files: readonly { readonly path: string; readonly data: Buffer }[];
}

/** Undefined: the guests go without. */
export async function fetchSshd(options: {
  readonly cacheDirectory: string;
  readonly onProgress?: (line: string) => void;
}): Promise<GuestSshd | undefined> {
  const folder = join(options.cacheDirectory, "sshd");
  if (!existsSync(folder)) {
    const fresh = `${folder}.${process.pid}`; // labs of other names may be raised at the same time
    const archives = join(fresh, "package");
    mkdirSync(archives, { recursive: true });
    try {
      options.onProgress?.(`guest sshd: fetching ${packages.join(", ")}`);
      await must(["apt-get", "download", "-o", "APT::Sandbox::User=root", ...packages], {
        cwd: archives,
        timeoutMs: 600_000,
      });
      for (const archive of readdirSync(archives))
        await must(["dpkg", "-x", join(archives, archive), join(fresh, "root")]);
      if (!existsSync(folder)) renameSync(fresh, folder); // whole or not at all
    } catch (error) {
      if (!isFault(error)) throw error;
      options.onProgress?.(`the guests have no sshd: ${error.message}`);
      return undefined;
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  return await readSshd(folder);
}

async function readSshd(folder: string): Promise<GuestSshd> {
  const program = join(folder, "root/usr/sbin/dropbear");
  const libraries = join(folder, "root", libraryFolder);
  // `libz.so.1 => /lib/…/libz.so.1 (0x…)`, and the loader by its path alone
  const needs = await must(["ldd", program], { env: { LD_LIBRARY_PATH: libraries } });
  const files = [...needs.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path = ""]) => ({
    path: path.includes("ld-linux") ? path.slice(1) : `lib/${basename(path)}`,
    data: readFileSync(path),
  }));
  return {
    version: readdirSync(join(folder, "package")).toSorted().join(" "),
    files: [{ path: "usr/sbin/dropbear", data: readFileSync(program) }, ...files],
  };
}
