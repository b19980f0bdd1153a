/**
 * What must be there before a lab can be raised, checked first, with a clear line for each thing that is missing.
 * Debian packages are installed after asking; everything else is the user's to decide. Run by itself:
 * `node shepherd/lab/prerequisites.ts [--install]`. On a terminal it asks; without one, or with YES=1, it goes on.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { type Finished, must, run } from "#lab/process";
import { Fault } from "#model/fault";
import { findOpa } from "#opa/binary";

/** What each Debian package is for, as the question says it. */
export const labPackages: Readonly<Record<string, string>> = {
  "libvirt-daemon-system": "libvirtd",
  "libvirt-daemon-driver-qemu": "libvirt's driver for QEMU",
  "libvirt-clients": "the tests' independent witness, virsh",
  "qemu-system-x86": "virtual machines",
  "qemu-utils": "disk images",
  iproute2: "network namespaces, bridges, rates",
  nftables: "filters",
  "iputils-ping": "proves what paths carry",
  "wireguard-tools": "keys and peers of the tunnels between sites",
  "wireguard-go": "tunnels where the kernel has no WireGuard",
  "dnsmasq-base": "DHCP and DNS of the guests' LANs",
  tcpdump: "captures, by which tests see what is on the wire",
  "openssh-server": "sshd in each lab host",
  "openssh-client": "ssh and its keys",
  "busybox-static": "the guests' programs",
  gcc: "compiles the guests' small programs",
  "libc6-dev": "links them statically",
  e2fsprogs: "the guests' file system",
};

export interface Facts {
  readonly platform: string;
  readonly arch: string;
  readonly uid: number;
  /** `24.21.0` */
  readonly node: string;
  /** Version by name, of what was found on PATH: terraform, tofu, opa, go. */
  readonly tools: Readonly<Record<string, string>>;
  /** False on machines without dpkg and apt-get. */
  readonly debian: boolean;
  readonly installed: ReadonlySet<string>;
  /** What the kernel refused, each as it said it. */
  readonly kernel: readonly { readonly what: string; readonly problem: string }[];
}
export interface Prerequisite {
  readonly what: string;
  /** What is wrong and what to do about it; undefined = fulfilled. */
  readonly problem?: string | undefined;
}
export interface Verdict {
  readonly checks: readonly Prerequisite[];
  /** Packages to install, sorted; possible only when nothing else is wrong. */
  readonly packages: readonly string[];
}

/** Pure: what follows from what was found. */
export function judge(facts: Facts): Verdict {
  const checks: Prerequisite[] = [
    {
      what: "Linux on x86-64",
      problem:
        facts.platform === "linux" && facts.arch === "x64"
          ? undefined
          : `this is ${facts.platform} on ${facts.arch}; use a Linux machine or a virtual machine`,
    },
    {
      what: "root",
      problem:
        facts.uid === 0
          ? undefined
          : "the lab makes namespaces and starts libvirtd: run it as root, or with sudo",
    },
    {
      what: "Node 22 or newer",
      problem: atLeast(facts.node, 22, 0)
        ? undefined
        : `this is Node ${facts.node}; \`make setup\` brings Node 24 into node_modules/.bin`,
    },
    { what: "Terraform or OpenTofu 1.11", problem: terraformProblem(facts.tools) },
    { what: "opa 1.20, or Go 1.21 to build it", problem: opaProblem(facts.tools) },
    {
      what: "Debian's apt and dpkg",
      problem: facts.debian
        ? undefined
        : "the lab takes its guests' kernel from a Debian package; use Debian 12 or newer, or one of its descendants",
    },
    ...facts.kernel.map(({ what, problem }) => ({ what: `kernel: ${what}`, problem })),
  ];
  const packages = facts.debian
    ? Object.keys(labPackages).filter((name) => !facts.installed.has(name))
    : [];
  return { checks, packages: packages.toSorted() };
}

function terraformProblem(tools: Facts["tools"]): string | undefined {
  const found = ["terraform", "tofu"].flatMap((name) => {
    const version = tools[name];
    return version === undefined ? [] : [{ name, version }];
  });
  if (found.some(({ version }) => atLeast(version, 1, 11))) return undefined;
  const seen = found.map(({ name, version }) => `${name} ${version} is too old`).join(", ");
  return `${seen === "" ? "neither is on PATH" : seen}; install Terraform or OpenTofu 1.11 or newer`;
}

function opaProblem(tools: Facts["tools"]): string | undefined {
  if (tools["opa"] !== undefined && atLeast(tools["opa"], 1, 20)) return undefined;
  if (tools["go"] !== undefined && atLeast(tools["go"], 1, 21)) return undefined;
  return "neither is on PATH; install opa 1.20 or newer, or Go 1.21 or newer, and drover builds opa itself";
}

function atLeast(version: string, major: number, minor: number): boolean {
  const [hasMajor = 0, hasMinor = 0] = version.split(".").map(Number);
  return hasMajor > major || (hasMajor === major && hasMinor >= minor);
}

/** Looks at this machine; changes nothing. */
export async function gatherFacts(): Promise<Facts> {
  const uid = process.getuid?.() ?? -1;
  const linux = process.platform === "linux";
  const [tools, installed, kernel] = await Promise.all([
    findTools(),
    findPackages(),
    linux && uid === 0 ? probeKernel() : [],
  ]);
  return {
    platform: process.platform,
    arch: process.arch,
    uid,
    node: process.versions.node,
    tools,
    debian: installed !== undefined,
    installed: installed ?? new Set(),
    kernel,
  };
}

/** Checks, asks, installs. Faults `lab.prerequisite_missing` with every problem at once. */
export async function ensurePrerequisites(options: {
  readonly install: boolean;
  readonly write: (line: string) => void;
}): Promise<void> {
  const verdict = judge(await gatherFacts());
  const wrong = verdict.checks.filter((check) => check.problem !== undefined);
  if (wrong.length > 0) throw missing(wrong.map((check) => `${check.what}: ${check.problem}`));
  if (verdict.packages.length === 0) {
    options.write("everything for the lab is there");
    return;
  }
  const list = verdict.packages.map((name) => `  ${name.padEnd(28)} ${labPackages[name]}`);
  if (!options.install) throw missing(verdict.packages.map((name) => `Debian package ${name}`));
  options.write(
    [
      "The lab needs these Debian packages; drover is about to install them with apt-get:",
      ...list,
      "Their services are not started now; Debian starts libvirtd and sshd at the next boot unless you disable them.",
    ].join("\n"),
  );
  if (!(await agreed())) throw missing(["you said no: install them yourself and try again"]);
  await install(verdict.packages, options.write);
}

function missing(problems: readonly string[]): Fault {
  return new Fault("lab.prerequisite_missing", {
    what: problems.length === 1 ? "One thing" : `${problems.length} things`,
    problem: problems.join("; "),
    problems,
  });
}

/** Yes without a terminal or with YES=1, so that scripts run through. */
async function agreed(): Promise<boolean> {
  if (process.env["YES"] === "1" || !process.stdin.isTTY) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question("Go on? [Y/n] ");
  terminal.close();
  return !/^n/i.test(answer.trim());
}

/** Debian starts a package's services when it installs it; this file, which Debian asks, says no for the while. */
const policyFile = "/usr/sbin/policy-rc.d";

async function install(packages: readonly string[], write: (line: string) => void): Promise<void> {
  const environment = { DEBIAN_FRONTEND: "noninteractive" };
  const apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"];
  const ours = !existsSync(policyFile);
  if (ours)
    writeFileSync(
      policyFile,
      "#!/bin/sh\n# drover: while it installs packages; may be removed\nexit 101\n",
      { mode: 0o755 },
    );
  try {
    write("apt-get update");
    await must([...apt, "update"], { env: environment, timeoutMs: 600_000 });
    write(`apt-get install ${packages.join(" ")}`);
    await must([...apt, "install", "--no-install-recommends", ...packages], {
      env: environment,
      timeoutMs: 1_800_000,
    });
  } finally {
    if (ours) rmSync(policyFile, { force: true });
  }
  write("installed");
}

async function findTools(): Promise<Readonly<Record<string, string>>> {
  const asks = [
    ["terraform", "version"],
    ["tofu", "version"],
    ["go", "version"],
  ] as const;
  const found = await Promise.all(
    asks.map(async ([name, verb]) => [name, await versionOf([name, verb])] as const),
  );
  // also the one that drover built before
  const opa = await findOpa().catch(() => undefined);
  return Object.fromEntries(
    [...found, ["opa", opa?.version] as const].flatMap(([name, version]) =>
      version === undefined ? [] : [[name, version]],
    ),
  );
}

async function versionOf(argv: readonly string[]): Promise<string | undefined> {
  const finished = await runIfThere(argv);
  return finished?.code === 0 ? /\d+\.\d+(\.\d+)?/.exec(finished.stdout)?.[0] : undefined;
}

/** Undefined on a machine without dpkg. */
async function findPackages(): Promise<ReadonlySet<string> | undefined> {
  const finished = await runIfThere([
    "dpkg-query",
    "-W",
    "-f",
    "${db:Status-Abbrev} ${Package}\\n",
    ...Object.keys(labPackages),
  ]);
  if (finished === undefined) return undefined;
  return new Set(
    finished.stdout
      .split("\n")
      .flatMap((line) => (line.startsWith("ii ") ? [line.slice(3).trim()] : [])),
  );
}

async function runIfThere(argv: readonly string[]): Promise<Finished | undefined> {
  try {
    return await run(argv, { timeoutMs: 30_000 });
  } catch {
    return undefined; // no such program
  }
}

/** Tries, in a network namespace that ends with the command, what the lab will do; a device file alone proves nothing. */
async function probeKernel(): Promise<Facts["kernel"]> {
  const asks = [
    { what: "network namespaces and bridges", line: "link add probe type bridge" },
    { what: "veth pairs", line: "link add probe type veth peer name probe2" },
    { what: "VXLAN", line: "link add probe type vxlan id 1 dstport 4789" },
    { what: "TUN/TAP (/dev/net/tun)", line: "tuntap add dev probe mode tap" },
  ];
  if ((await runIfThere(["ip", "-V"])) === undefined) return []; // iproute2 comes with the packages
  const tried = await Promise.all(
    asks.map(async ({ what, line }) => ({
      what,
      finished: await run(["unshare", "--net", "ip", ...line.split(" ")]),
    })),
  );
  return tried.flatMap(({ what, finished }) =>
    finished.code === 0
      ? []
      : [{ what, problem: finished.stderr.trim() || `refused with ${finished.code}` }],
  );
}

if (import.meta.main) {
  try {
    await ensurePrerequisites({
      install: process.argv.includes("--install"),
      write: (line) => process.stdout.write(`${line}\n`),
    });
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const problems = error.details["problems"];
    const lines = Array.isArray(problems) ? problems.map((problem) => `  ${String(problem)}`) : [];
    process.stderr.write(
      `drover: ${lines.length > 0 ? `missing:\n${lines.join("\n")}` : error.message}\n`,
    );
    process.exitCode = 1;
  }
}
