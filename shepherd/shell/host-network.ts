/**
 * The network of one host over its shell: one script asks, network/diff decides, one script changes. Implements
 * ports/host-network. Holds no state of the host between two calls except how its nft prints our rules.
 */
import { randomBytes } from "node:crypto";
import { Fault } from "#model/fault";
import type { BatchProgram, NetworkBatch } from "#network/changes";
import { diffNetwork, type NetworkDiff } from "#network/diff";
import { filterProbeText } from "#network/filters";
import type { ObservedNetwork } from "#network/observed";
import type { HostNetwork, HostNetworkConfig } from "#ports/host-network";
import { readFilters, readNetwork, readScript } from "#shell/read-network";
import { type HostShell, lastLines, runOk } from "#shell/shell";

/**
 * A device may come or go between asking and changing (a guest that starts or ends): look again and try again this
 * often. More failures mean that the host really refuses.
 */
const maxAttempts = 3;

export function createHostNetwork(shell: HostShell): HostNetwork {
  let printedRules: Promise<string> | undefined;
  let last: Promise<unknown> = Promise.resolve();

  function expectedRules(): Promise<string> {
    printedRules ??= probeFilters(shell).catch((error: unknown) => {
      printedRules = undefined;
      throw error;
    });
    return printedRules;
  }

  async function compare(wish: HostNetworkConfig): Promise<NetworkDiff> {
    const rules = await expectedRules();
    return diffNetwork(wish, await observe(shell), rules);
  }

  async function makeEqual(wish: HostNetworkConfig): Promise<NetworkDiff["differences"]> {
    const changed: NetworkDiff["differences"][number][] = [];
    for (let attempt = 1; ; attempt += 1) {
      const { differences, batch } = await compare(wish);
      if (differences.length === 0) return changed;
      changed.push(...differences);
      const refusal = await runBatch(shell, batch);
      if (refusal === undefined) return changed;
      if (attempt === maxAttempts) {
        throw new Fault("network.apply_failed", { host: shell.hostId, ...refusal });
      }
    }
  }

  return {
    audit: async (wish) => (await compare(wish)).differences,
    apply(wish) {
      // One after the other in the order of the calls, so that an older wish never overtakes a newer one.
      const done = last.then(() => makeEqual(wish));
      last = done.catch(() => undefined);
      return done;
    },
  };
}

async function observe(shell: HostShell): Promise<ObservedNetwork> {
  for (let attempt = 1; ; attempt += 1) {
    const { stdout, stderr } = await shell.run(["sh", "-s"], { input: readScript });
    try {
      return readNetwork(stdout);
    } catch (error) {
      // A device that goes while tc is asked about it ends tc's batch early.
      if (attempt < maxAttempts) continue;
      const problem = `${error instanceof Error ? error.message : String(error)}; ${lastLines(stderr)}`;
      throw new Fault("network.feature_missing", { host: shell.hostId, problem }, { cause: error });
    }
  }
}

/** How this host's nft prints our rules: from a table without hooks, which filters nothing and is gone at once. */
async function probeFilters(shell: HostShell): Promise<string> {
  const table = `drover_probe_${randomBytes(4).toString("hex")}`;
  const script = [
    ...here("nft -f -", "exit 1", filterProbeText(table)),
    `nft -j list table bridge ${table}`,
    `nft delete table bridge ${table}`,
  ];
  try {
    const { stdout } = await runOk(shell, ["sh", "-s"], { input: script.join("\n") });
    const rules = readFilters(stdout)?.rules;
    if (rules === undefined) throw new Error("nft does not print what it was given");
    return rules;
  } catch (error) {
    if (error instanceof Fault && error.code === "host.unreachable") throw error;
    const problem = error instanceof Error ? error.message : String(error);
    throw new Fault("network.feature_missing", { host: shell.hostId, problem }, { cause: error });
  }
}

const programs: readonly {
  readonly program: BatchProgram;
  readonly command: string;
  readonly exitCode: number;
}[] = [
  { program: "nft", command: "nft -f -", exitCode: 101 },
  { program: "ip", command: "ip -batch -", exitCode: 102 },
  { program: "bridge", command: "bridge -batch -", exitCode: 103 },
  { program: "tc", command: "tc -batch -", exitCode: 104 },
];

/** Filters first, so that a port is never open without them. Returns the first command that was refused, if any. */
async function runBatch(
  shell: HostShell,
  batch: NetworkBatch,
): Promise<{ readonly command: string; readonly problem: string } | undefined> {
  const script = programs.flatMap(({ program, command, exitCode }) =>
    batch[program].length === 0 ? [] : here(command, `exit ${exitCode}`, batch[program]),
  );
  const { exitCode, stderr } = await shell.run(["sh", "-s"], { input: script.join("\n") });
  if (exitCode === 0) return undefined;
  const failed = programs.find((candidate) => candidate.exitCode === exitCode);
  if (failed === undefined) return { command: "sh -s", problem: lastLines(stderr) };
  // iproute2 says "Command failed -:3", nft "/dev/stdin:3:1-9: Error".
  const line = Number(/(?:Command failed -|\/dev\/stdin|^-):(\d+)/m.exec(stderr)?.[1]);
  const text = batch[failed.program][line - 1] ?? "";
  return { command: `${failed.command.split(" ")[0]} ${text}`.trim(), problem: lastLines(stderr) };
}

/** A here-document whose text the shell takes as it is. The lines were checked to hold no line breaks (network/diff). */
function here(command: string, otherwise: string, lines: readonly string[]): readonly string[] {
  return [`${command} <<'DROVER_END' || ${otherwise}`, ...lines, "DROVER_END", ""];
}
