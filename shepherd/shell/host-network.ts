/**
 * The network of one host over its shell: one script asks, network/diff decides, one script changes and asks again.
 * Implements ports/host-network. Between two calls it keeps how the host's nft prints our rules, and what the host
 * looked like at the last look: a change is first worked out from that, so that a cut-over waits for no question, and
 * is always checked against a fresh look before the caller is answered.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import type { BatchProgram, NetworkBatch } from "#network/changes";
import { diffNetwork, type ExpectedRules } from "#network/diff";
import { filters } from "#network/filters";
import { exits } from "#network/gateway";
import { probeText } from "#network/nft-table";
import type { ObservedNetwork } from "#network/observed";
import { underlay } from "#network/underlay";
import type { HostNetwork, HostNetworkConfig, NetworkDifference } from "#ports/host-network";
import { pathMtu, shakesHands, tunnelKey } from "#shell/host-paths";
import { clockMs, moveWay } from "#shell/move-way";
import { readFilters, readNetwork, readScript } from "#shell/read-network";
import { type HostShell, lastLines } from "#shell/shell";
import { createWaitingPrograms, type WaitingLine } from "#shell/waiting";

/**
 * Rounds of change and look. A device may come or go in between (a guest that starts or ends); more failures than this
 * mean that the host really refuses.
 */
const maxRounds = 4;
/** From what was fired to the look at it: many times what it takes, and nobody waits for the look. */
const afterFireMs: Ms = 100;
/** Looks that cannot be read, for the same reason. */
const maxLooks = 3;

export function createHostNetwork(shell: HostShell): HostNetwork {
  let printedRules: Promise<ExpectedRules> | undefined;
  let lastLook: ObservedNetwork | undefined;
  let queue: Promise<unknown> = Promise.resolve();
  const waiting = createWaitingPrograms(shell);
  let firedAtMs = Number.NEGATIVE_INFINITY;

  function expectedRules(): Promise<ExpectedRules> {
    printedRules ??= probeFilters(shell).catch((error: unknown) => {
      printedRules = undefined;
      throw error;
    });
    return printedRules;
  }

  async function makeEqual(wish: HostNetworkConfig): Promise<readonly NetworkDifference[]> {
    // A look starts a dozen programs; what was just fired goes first, and is then seen as done.
    const restMs = firedAtMs + afterFireMs - performance.now();
    if (restMs > 0) await pause(restMs);
    const rules = await expectedRules();
    const changed: NetworkDifference[] = [];
    let refusal: Refusal | undefined;
    let look = lastLook;
    // A tap that came since the last look has to be seen before it can be opened.
    let fresh = false;
    if (look === undefined || opensUnseenTap(wish, look)) {
      look = await observe(shell);
      fresh = true;
    }
    for (let round = 1; ; round += 1) {
      const { differences, batch } = diffNetwork(wish, look, rules);
      if (differences.length === 0 && fresh) {
        lastLook = look;
        return changed;
      }
      if (round > maxRounds) {
        lastLook = undefined;
        const left = { command: "(all were accepted)", problem: describe(differences) };
        throw new Fault("network.apply_failed", { host: shell.hostId, ...(refusal ?? left) });
      }
      changed.push(...differences);
      lastLook = undefined;
      const outcome = await changeAndLook(shell, batch);
      refusal = outcome.refusal;
      look = outcome.look ?? (await observe(shell));
      fresh = true;
    }
  }

  return {
    async audit(wish) {
      const look = await observe(shell);
      return diffNetwork(wish, look, await expectedRules()).differences;
    },
    apply(wish) {
      // One after the other in the order of the calls, so that an older wish never overtakes a newer one.
      const done = queue.then(() => makeEqual(wish));
      queue = done.catch(() => undefined);
      return done;
    },
    async arm(wish, concerning) {
      const rules = await expectedRules();
      // What stands in the last look may be older than the tap of a machine that is just arriving.
      const { batch } = diffNetwork(wish, await observe(shell), rules);
      const lines = cutOverLines(batch, concerning);
      if (lines.length === 0 || !(await waiting.open())) return undefined;
      return {
        fire() {
          // The next apply must not take the host for what it was before.
          lastLook = undefined;
          firedAtMs = performance.now();
          waiting.tell(lines);
        },
      };
    },
    tunnelKey: (device, options) => tunnelKey(shell, device, options),
    shakesHands: (device, peers) => shakesHands(shell, device, peers),
    pathMtu: (address, maxBytes) => pathMtu(shell, address, maxBytes),
    clockMs: () => clockMs(shell),
    moveWay: (question) => moveWay(shell, question),
  };
}

/**
 * Of a batch what names these machines and needs no device to come or go. Forwarding first: `bridge` is running and turns
 * it while nft starts, and until nft is done the port stays blocked.
 */
function cutOverLines(
  batch: NetworkBatch,
  concerning: readonly { readonly mac: string; readonly tap: string }[],
): readonly WaitingLine[] {
  const names = (line: string) =>
    concerning.some(({ mac, tap }) => line.includes(mac) || line.includes(tap));
  const nft = batch.nft.filter((line) => /^(add|delete) element /.test(line) && names(line));
  return [
    ...batch.bridge.filter(names).map((line) => ({ program: "bridge" as const, line })),
    ...(nft.length === 0 ? [] : [{ program: "nft" as const, line: nft.join("; ") }]),
  ];
}

function opensUnseenTap(wish: HostNetworkConfig, look: ObservedNetwork): boolean {
  return wish.bridges.some((bridge) =>
    bridge.ports.some((port) => !port.blocked && !look.links.has(port.tap)),
  );
}

function describe(differences: readonly NetworkDifference[]): string {
  const lines = differences.slice(0, 3).map((each) => `${each.object}: ${each.detail}`);
  return `still ${differences.length} differences: ${lines.join("; ")}`;
}

async function observe(shell: HostShell): Promise<ObservedNetwork> {
  for (let attempt = 1; ; attempt += 1) {
    const { stdout, stderr } = await shell.script(readScript);
    try {
      return readNetwork(stdout);
    } catch (error) {
      // A device that goes while tc is asked about it ends tc's batch early.
      if (attempt < maxLooks) continue;
      const problem = `${error instanceof Error ? error.message : String(error)}; ${lastLines(stderr)}`;
      throw new Fault("network.feature_missing", { host: shell.hostId, problem }, { cause: error });
    }
  }
}

/** How this host's nft prints our rules: from a table without hooks, which filters nothing and is gone at once. */
async function probeFilters(shell: HostShell): Promise<ExpectedRules> {
  const name = `drover_probe_${randomBytes(4).toString("hex")}`;
  const script = [filters, underlay, exits].flatMap((table) => [
    ...here("nft -f -", "exit 1", probeText(table, name)),
    `nft -j list table ${table.family} ${name}; echo '@'`,
    `nft delete table ${table.family} ${name}`,
  ]);
  script.push(...classifierProbe(`dvp${randomBytes(6).toString("hex")}`));
  try {
    const { exitCode, stdout, stderr } = await shell.script(script.join("\n"));
    const parts = stdout.split(/^@$/m);
    const [ofFilters, ofUnderlay, ofExits] = parts
      .slice(0, 3)
      .map((part) => (exitCode === 0 ? readFilters(part)?.rules : undefined));
    if (ofFilters === undefined || ofUnderlay === undefined || ofExits === undefined)
      throw new Error(`nft: ${lastLines(stderr)}`);
    return {
      filters: ofFilters,
      underlay: ofUnderlay,
      exits: ofExits,
      classifier: parts[3]?.includes("flower") === true ? "flower" : "u32",
    };
  } catch (error) {
    if (error instanceof Fault && error.code === "host.unreachable") throw error;
    const problem = error instanceof Error ? error.message : String(error);
    throw new Fault("network.feature_missing", { host: shell.hostId, problem }, { cause: error });
  }
}

/** Says `flower` when the kernel has it (and loads it, where it is a module): on a device of its own, gone at once. */
function classifierProbe(device: string): readonly string[] {
  const filter = `tc filter add dev ${device} parent ffff: protocol all pref 1`;
  return [
    `ip link add name ${device} type ifb && tc qdisc add dev ${device} ingress &&`,
    `${filter} flower dst_mac 02:00:00:00:00:01 classid 1:1 2>/dev/null && echo flower`,
    `ip link delete dev ${device} 2>/dev/null || :`,
  ];
}

const programs: readonly {
  readonly program: BatchProgram;
  readonly command: string;
  readonly exitCode: number;
}[] = [
  { program: "start", command: "sh -e", exitCode: 105 },
  { program: "nft", command: "nft -f -", exitCode: 101 },
  { program: "ip", command: "ip -batch -", exitCode: 102 },
  { program: "bridge", command: "bridge -batch -", exitCode: 103 },
  { program: "tc", command: "tc -batch -", exitCode: 104 },
  { program: "end", command: "sh -e", exitCode: 106 },
];

interface Refusal {
  readonly command: string;
  readonly problem: string;
}

/**
 * Filters first, so that a port is never open without them; then a look, in the same round trip. What the host refused,
 * or how it looks afterwards (undefined when that cannot be read).
 */
async function changeAndLook(
  shell: HostShell,
  batch: NetworkBatch,
): Promise<{ readonly refusal?: Refusal; readonly look?: ObservedNetwork }> {
  const script = programs.flatMap(({ program, command, exitCode }) =>
    batch[program].length === 0 ? [] : here(command, `exit ${exitCode}`, batch[program]),
  );
  script.push(readScript);
  const { exitCode, stdout, stderr } = await shell.script(script.join("\n"));
  if (exitCode === 0) {
    try {
      return { look: readNetwork(stdout) };
    } catch {
      // The change is done; the caller looks again and tells what cannot be read.
      return {};
    }
  }
  const failed = programs.find((candidate) => candidate.exitCode === exitCode);
  if (failed === undefined) return { refusal: { command: "a script", problem: lastLines(stderr) } };
  // iproute2 says "Command failed -:3", nft "/dev/stdin:3:1-9: Error".
  const line = Number(/(?:Command failed -|\/dev\/stdin|^-):(\d+)/m.exec(stderr)?.[1]);
  const text = batch[failed.program][line - 1] ?? "";
  const command = `${failed.command.split(" ")[0]} ${text}`.trim();
  return { refusal: { command, problem: lastLines(stderr) } };
}

/** A here-document whose text the shell takes as it is. The lines were checked to hold no line breaks (network/diff). */
function here(command: string, otherwise: string, lines: readonly string[]): readonly string[] {
  return [`${command} <<'DROVER_END' || ${otherwise}`, ...lines, "DROVER_END", ""];
}
