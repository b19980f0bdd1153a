/**
 * Takes a host for this shepherd, on every new connection and before anything else runs over it. One small file on the
 * host says whose it is; under its lock an older shepherd and another installation are refused, and the SSH sessions of a
 * predecessor are ended: what it had not sent yet never arrives. Nothing of ours runs on the host: it is one script.
 */
import { Fault } from "#model/fault";
import type { HostId } from "#model/units";
import type { HostClaim } from "#ports/claim";
import { runCommand } from "#shell/ssh-command";
import type { Connection } from "#shell/ssh-connection";

/** Where libvirt keeps its own state: as lasting as the machines themselves. */
const directory = "/var/lib/libvirt/drover";
const claimBudgetMs = 15_000;

/**
 * $1 directory, $2 lineage, $3 epoch, $4 holder. Prints `taken`, or whose it is. A session is the nearest sshd above this
 * shell, with its start time, so that a reused pid is never ended.
 */
const script = `set -eu
mkdir -p "$1"
exec 9>"$1/lock"
flock 9
started() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null || true; }
holder=
if [ -s "$1/claim" ]; then
  read -r lineage epoch holder <"$1/claim"
  if [ "$lineage" != "$2" ]; then echo "other_installation $lineage $epoch"; exit 0; fi
  if [ "$epoch" -gt "$3" ] || { [ "$epoch" -eq "$3" ] && [ "$holder" != "$4" ]; }; then
    echo "newer_shepherd $lineage $epoch"; exit 0
  fi
fi
: >"$1/sessions.new"
if [ -e "$1/sessions" ]; then
  while read -r pid start; do
    [ -n "$start" ] && [ "$(started "$pid")" = "$start" ] || continue
    if [ "$holder" = "$4" ]; then echo "$pid $start" >>"$1/sessions.new"; else kill -9 "$pid" || true; fi
  done <"$1/sessions"
fi
pid=$PPID
while [ "$pid" -gt 1 ]; do
  case $(cat "/proc/$pid/comm") in sshd*) echo "$pid $(started "$pid")" >>"$1/sessions.new"; break ;; esac
  pid=$(cut -d' ' -f4 "/proc/$pid/stat")
done
mv "$1/sessions.new" "$1/sessions"
echo "$2 $3 $4" >"$1/claim.new"
mv "$1/claim.new" "$1/claim"
echo taken`;

/** Fault `host.claimed` names whose it is. */
export async function claimHost(
  hostId: HostId,
  connection: Connection,
  claim: HostClaim,
): Promise<void> {
  const argv = [
    "sh",
    "-c",
    script,
    "sh",
    directory,
    claim.lineage,
    String(claim.epoch),
    claim.holder,
  ];
  const { stdout, stderr, exitCode } = await runCommand(hostId, connection, argv, {
    timeoutMs: claimBudgetMs,
  });
  if (exitCode !== 0) {
    throw new Fault("shell.exit", {
      host: hostId,
      command: "claiming the host",
      exitCode,
      problem: stderr.trim(),
    });
  }
  const [verdict = "", lineage = "", epoch = ""] = stdout.trim().split(" ");
  if (verdict === "taken") return;
  throw claimed(hostId, verdict, { lineage, epoch: Number(epoch) });
}

export function claimed(
  hostId: HostId,
  verdict: string,
  held: { readonly lineage: string; readonly epoch: number },
): Fault {
  const who =
    verdict === "newer_shepherd"
      ? `a newer shepherd (epoch ${held.epoch})`
      : `another installation (${held.lineage})`;
  return new Fault("host.claimed", { host: hostId, who, file: `${directory}/claim` });
}
