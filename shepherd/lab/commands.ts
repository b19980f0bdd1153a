/**
 * What `drover lab up | down | status | ssh | exec` do, apart from reading the command line: progress lines go to
 * `write`, the result is a value that the command line prints as text or JSON, and an exit code.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { machinesAt, openGuest } from "#lab/guest-shell";
import { insideHost } from "#lab/host";
import { down, type Lab, type LabStatus, openLab, status, type UpOptions, up } from "#lab/lab";
import { hostOf, type LabPlace } from "#lab/layout";
import type { SweepReport } from "#lab/sweep";
import { describeWan, parseWan } from "#lab/wan";
import { changeWan, readWan, type Wan } from "#lab/wan-control";
import { Fault } from "#model/fault";
import { commandLine } from "#shell/shell";

type Write = (line: string) => void;

export async function labUp(options: UpOptions, write: Write): Promise<Lab> {
  const from = performance.now();
  const stamp: Write = (line) =>
    write(`${((performance.now() - from) / 1000).toFixed(1).padStart(5)} s  ${line}`);
  return await up({ ...options, onProgress: stamp });
}

export async function labDown(
  options: LabPlace & { readonly cache?: boolean },
  write: Write,
): Promise<SweepReport> {
  return await down({ ...options, onProgress: write });
}

export interface LabView extends LabStatus {
  readonly machines: Readonly<Record<string, readonly string[]>>;
}
export function labStatus(options: LabPlace): LabView {
  const found = status(options);
  const machines = found.state === "down" ? {} : Object.fromEntries(openMachines(options));
  return { ...found, machines };
}

/** The status as a person reads it. */
export function describeStatus(view: LabView): string {
  if (view.state === "down") return `lab ${view.name}: down`;
  const rows = view.hosts.map((host) => {
    const missing = Object.entries(host.running).flatMap(([what, runs]) =>
      runs ? [] : [`${what} does not run`],
    );
    const machines = view.machines[host.id] ?? [];
    const state =
      missing.length > 0
        ? missing.join(", ")
        : machines.length > 0
          ? machines.join(", ")
          : "no machine";
    return `  ${host.site.padEnd(12)} ${host.id.padEnd(12)} ${host.address.padEnd(15)} ${state}`;
  });
  return [`lab ${view.name}: ${view.state}; configuration ${view.configurationFile}`, ...rows].join(
    "\n",
  );
}

/**
 * Shows the WAN, or changes pairs of it: `set` takes them as `up --wan` does, `cut` and `mend` take `north:south` and
 * leave what the path is otherwise like. Faults `lab.wan_invalid`, `lab.not_up`.
 */
export async function labWan(
  options: LabPlace & {
    readonly action: "show" | "set" | "cut" | "mend";
    readonly paths: readonly string[];
  },
): Promise<Wan | undefined> {
  let wan = readWan(options);
  if (options.action === "show") return wan;
  for (const asked of options.paths.map(parseWan)) {
    wan = await changeWan(options, asked.sites, (path) =>
      options.action === "set" ? asked : { ...path, cut: options.action === "cut" },
    );
  }
  return wan;
}

export function describeWans(wan: Wan | undefined): string {
  if (wan === undefined) return "no WAN: the sites are joined by wires (raise the lab with --wan)";
  return [`WAN by ${wan.driver}`, ...wan.paths.map((path) => `  ${describeWan(path)}`)].join("\n");
}

/** Paths of `--wan`. Fault `lab.wan_invalid`. */
export { parseWan };

/** A shell (or a command) at a host over real SSH, on this terminal. Resolves to its exit code. */
export async function labSsh(
  options: LabPlace & { readonly host: string; readonly command: readonly string[] },
): Promise<number> {
  const { layout } = openLab(options);
  const host = hostOf(layout, options.host);
  const key = ["-i", join(layout.stateDirectory, "ssh/id_ed25519"), "-o", "IdentitiesOnly=yes"];
  const verify = [
    "-o",
    `UserKnownHostsFile=${join(layout.stateDirectory, "ssh/known_hosts")}`,
    "-o",
    "GlobalKnownHostsFile=/dev/null",
    "-o",
    "StrictHostKeyChecking=yes",
  ];
  return await onTerminal([
    "ssh",
    "-F",
    "/dev/null",
    ...key,
    ...verify,
    `root@${host.address}`,
    ...afterDashes(options.command),
  ]);
}

/**
 * A command in a host's namespaces without SSH, or inside a machine over the lab's channel (`machine` names the libvirt
 * domain, or its end such as `rank-0` where that is unique). Resolves to its exit code.
 */
export async function labExec(
  options: LabPlace & {
    readonly target: string;
    readonly command: readonly string[];
    readonly write: (text: string) => void;
  },
): Promise<number> {
  const state = openLab(options);
  const command = afterDashes(options.command);
  const processes = state.hosts[options.target];
  if (processes?.anchor !== undefined)
    return await onTerminal([...insideHost(processes.anchor), ...command]);
  const machines = [...openMachines(options).values()].flat();
  const exact = machines.filter((name) => name === options.target);
  const found =
    exact.length > 0 ? exact : machines.filter((name) => name.endsWith(`-${options.target}`));
  const [machine] = found;
  if (machine === undefined || new Set(found).size > 1)
    throw new Fault("lab.host_unknown", {
      host: options.target,
      hosts: [...Object.keys(state.hosts), ...machines].join(", "),
    });
  const result = await openGuest(state.layout, machine).run(
    // One word is a line for the guest's shell, as with ssh; of several each stays itself.
    command.length === 1 ? (command[0] ?? "") : commandLine(command),
  );
  options.write(result.stdout);
  return result.code;
}

function openMachines(options: LabPlace): ReadonlyMap<string, readonly string[]> {
  const { layout } = openLab(options);
  return new Map(
    layout.sites.flatMap((site) => site.hosts.map((host) => [host.id, machinesAt(host)] as const)),
  );
}

function onTerminal(argv: readonly string[]): Promise<number> {
  const [command = "", ...rest] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(command, rest, { stdio: "inherit" });
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 137));
  });
}

/** `drover lab exec north-1 -- ls -l`: the dashes only end drover's own options. */
function afterDashes(command: readonly string[]): readonly string[] {
  return command[0] === "--" ? command.slice(1) : command;
}
