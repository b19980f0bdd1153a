/**
 * What a host finds at its end of a move, and what time it has there: its own addresses, which ports are taken, and whether a connection
 * to the other host gets through. One script over the host's shell, with what every Linux brings; part of
 * ports/host-network. Changes nothing.
 */
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import type { MoveWay } from "#ports/host-network";
import { commandLine, type HostShell, lastLines } from "#shell/shell";

/** A SYN that nobody answers for so long was dropped. */
const connectSeconds = 3;
/** Exit code of `timeout` when it had to end what it ran. */
const timedOut = 124;

export async function moveWay(
  shell: HostShell,
  question: {
    readonly address: string;
    readonly ports: { readonly first: number; readonly last: number };
    readonly peerAddress: string;
  },
): Promise<MoveWay> {
  const { address, ports, peerAddress } = question;
  // The last port is the one that is least likely to be in use; whoever refuses has let the packet through.
  const connect = `exec 3<>/dev/tcp/${peerAddress}/${ports.last}`;
  const script = `
ip -o addr show | awk '{ print $4 }' | sed 's,/.*,,' | grep -qxF ${commandLine([address])} && echo owns
command -v wg >/dev/null && echo keys
echo "taken $(ss -Htln 2>/dev/null | awk '{ print $4 }' | sed 's/.*://' | sort -u | awk '$1 >= ${ports.first} && $1 <= ${ports.last}' | wc -l)"
if command -v bash >/dev/null; then
  said=$(timeout ${connectSeconds} bash -c ${commandLine([connect])} 2>&1); code=$?
  echo "peer $code $said"
fi`;
  const { exitCode, stdout, stderr } = await shell.run(["sh", "-c", `${script}\nexit 0`]);
  if (exitCode !== 0) {
    const problem = `its ways were not looked at: ${lastLines(stderr)}`;
    throw new Fault("network.feature_missing", { host: shell.hostId, problem });
  }
  const lines = stdout.split("\n").map((line) => {
    const [word = "", ...rest] = line.split(" ");
    return [word, rest.join(" ")] as const;
  });
  const told = new Map(lines);
  const peer = told.get("peer");
  return {
    ownsAddress: told.has("owns"),
    canMakeKeys: told.has("keys"),
    portsTaken: Number(told.get("taken") ?? 0),
    peer: peer === undefined ? undefined : peerOf(peer),
  };
}

/** Milliseconds since 1970, UTC, as the host's own clock has it. */
export async function clockMs(shell: HostShell): Promise<Ms> {
  const { stdout, stderr } = await shell.run(["date", "+%s%3N"]);
  const said = Number(stdout.trim());
  if (Number.isInteger(said) && said > 0) return said;
  const problem = `it did not tell its time: ${lastLines(stderr)}`;
  throw new Fault("network.feature_missing", { host: shell.hostId, problem });
}

function peerOf(answer: string): NonNullable<MoveWay["peer"]> {
  const code = Number(answer.split(" ", 1)[0]);
  if (code === 0 || answer.includes("refused")) return "passes";
  return code === timedOut ? "filtered" : "unreachable";
}
