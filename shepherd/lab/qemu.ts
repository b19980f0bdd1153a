/**
 * The lab hosts' QEMU. Before 9.0 its translator loses writes of guests that move (docs/libvirt.md), and Debian 12 has 7.2:
 * then Debian's own backport is laid over it inside the lab's hosts, taken out of its packages and never installed on
 * this machine. Where none is to be had the hosts keep what the machine has, and moves stop their guests for longer.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { must, run } from "#lab/process";
import { isFault } from "#model/fault";

const binary = "usr/bin/qemu-system-x86_64";
/** All that belongs to one build are this program, its loadable parts and its firmware: host-world.sh lays them over. */
const packages = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
const firstGoodMajor = 9;
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** A folder to lay over the distribution's files in each host; undefined: the machine's own QEMU is used. */
export async function fetchQemu(options: {
  readonly cacheDirectory: string;
  readonly onProgress?: (line: string) => void;
}): Promise<string | undefined> {
  const say = options.onProgress ?? (() => undefined);
  const own = await majorOf(`/${binary}`);
  if (own !== undefined && own >= firstGoodMajor) return undefined;
  const folder = join(options.cacheDirectory, "qemu");
  if (existsSync(folder)) return folder;
  const fresh = `${folder}.${process.pid}`; // labs of other names may be raised at the same time
  mkdirSync(join(fresh, "apt/lists/partial"), { recursive: true });
  try {
    say(
      `QEMU ${own ?? ""} is too old for live moves of translated guests: fetching Debian's backport`,
    );
    await download(fresh);
    const major = await majorOf(join(fresh, binary));
    if (major !== undefined && major >= firstGoodMajor) {
      if (!existsSync(folder)) renameSync(fresh, folder); // whole or not at all
      return folder;
    }
    say("the backport does not run here; the machine's own QEMU is used");
  } catch (error) {
    if (!isFault(error)) throw error;
    say(`no backport is to be had, the machine's own QEMU is used: ${error.message}`);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return undefined;
}

/** With lists of its own, so that this machine's apt never hears of backports. */
async function download(folder: string): Promise<void> {
  const apt = join(folder, "apt");
  const list = join(apt, "sources.list");
  const signedBy = existsSync(keyring) ? ` [signed-by=${keyring}]` : "";
  writeFileSync(list, `deb${signedBy} ${await backports()} main\n`);
  const options = [
    `Dir::Etc::sourcelist=${list}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${join(apt, "lists")}`,
    `Dir::Cache=${apt}`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  await must(["apt-get", ...options, "update"], { cwd: apt, timeoutMs: 120_000 });
  await must(["apt-get", ...options, "download", ...packages], { cwd: apt, timeoutMs: 600_000 });
  for (const archive of readdirSync(apt).filter((name) => name.endsWith(".deb")))
    await must(["dpkg", "-x", join(apt, archive), folder]);
  rmSync(apt, { recursive: true });
}

/** `<mirror> <codename>-backports`, of the mirror that this machine's apt uses for the release itself. */
async function backports(): Promise<string> {
  const codename = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  const targets = await must([
    "apt-get",
    "indextargets",
    "--format",
    "$(CODENAME) $(REPO_URI)",
    "Created-By: Packages",
  ]);
  const mirror = targets
    .split("\n")
    .map((line) => line.split(" "))
    .find(([name]) => name === codename)?.[1];
  return `${mirror ?? ""} ${codename ?? ""}-backports`;
}

async function majorOf(program: string): Promise<number | undefined> {
  if (!existsSync(program)) return undefined;
  const { stdout } = await run([program, "--version"]);
  const major = /version (\d+)/.exec(stdout)?.[1];
  return major === undefined ? undefined : Number(major);
}
