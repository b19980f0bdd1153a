/**
 * What a host finds out about its ways to others: the public key of a tunnel's end (making the private one when there is
 * none), whether others answer through a tunnel, and how large a packet a path really carries. Scripts over the host's
 * shell; part of ports/host-network. A private key is made by the host, stays in its memory file system, and is never
 * printed.
 */
import { Fault } from "#model/fault";
import { keyDirectory, keyFile } from "#network/tunnels";
import { commandLine, type HostShell, lastLines } from "#shell/shell";

/** Every IPv4 host takes this much; a path that carries less is none. */
const leastPathBytes = 576;
/** IPv4 and ICMP headers, which ping's size does not count. */
const pingHeaderBytes = 28;
/** Longest round trip of a path that we call a path. */
const answerSeconds = 2;

export async function tunnelKey(
  shell: HostShell,
  device: string,
  { fresh = false }: { readonly fresh?: boolean } = {},
): Promise<string> {
  const file = keyFile(device);
  const script = `
command -v wg >/dev/null || { echo 'there is no program wg (wireguard-tools)' >&2; exit 3; }
ip link add dev ${device} type wireguard 2>/dev/null && ip link delete dev ${device}
[ -d /sys/module/wireguard ] || command -v wireguard-go >/dev/null || {
  echo 'its kernel has no WireGuard, and there is no wireguard-go' >&2; exit 3; }
umask 077
mkdir -p ${keyDirectory}
${fresh ? `rm -f ${file}` : ""}
if [ ! -e ${file} ]; then wg genkey >${file}.new && mv ${file}.new ${file} || exit 4; fi
mode=$(stat -c '%a %u' ${file}); [ "$mode" = '600 0' ] || { echo "$mode"; exit 5; }
wg pubkey <${file}`;
  const { exitCode, stdout, stderr } = await shell.script(script);
  const key = stdout.trim();
  if (exitCode === 0 && /^[A-Za-z0-9+/]{43}=$/.test(key)) return key;
  if (exitCode === 5) {
    const [mode, owner] = key.split(" ");
    throw new Fault("network.key_exposed", { host: shell.hostId, file, mode, owner });
  }
  throw new Fault("network.feature_missing", { host: shell.hostId, problem: lastLines(stderr) });
}

export async function shakesHands(
  shell: HostShell,
  device: string,
  peers: readonly { readonly publicKey: string; readonly address: string }[],
): Promise<boolean> {
  // What is sent through the device asks for a handshake; the answer may come back by another one, and is not awaited.
  const knock = peers.map(
    ({ address }) =>
      `ping -q -n -c 1 -W 1 -I ${device} ${commandLine([address])} >/dev/null 2>&1 &`,
  );
  const script = `
for round in 1 2 3 4 5 6 7 8 9 10; do
${knock.join("\n")}
sleep 0.3
met=$(wg show ${device} latest-handshakes | awk '$2 > 0 { print $1 }')
missing=0
for key in ${peers.map((peer) => commandLine([peer.publicKey])).join(" ")}; do
case "$met" in *"$key"*) ;; *) missing=1 ;; esac
done
[ $missing = 0 ] && { wait; exit 0; }
done
wait
exit 1`;
  return (await shell.script(script)).exitCode === 0;
}

export async function pathMtu(
  shell: HostShell,
  address: string,
  maxBytes: number,
): Promise<number> {
  // One question is enough on a good path (asked again five times a second until it is answered); else eight sizes at once, and eight between the last that passed and the next.
  const script = `
passes() { ping -q -n -c 1 -i 0.2 -w ${answerSeconds} -M do -s $(($1 - ${pingHeaderBytes})) ${commandLine([address])} >/dev/null 2>&1; }
device=$(ip -o route get ${commandLine([address])} | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')
high=$(ip -o link show dev "$device" | sed -n 's/.* mtu \\([0-9]*\\).*/\\1/p')
[ "$high" -lt ${maxBytes} ] || high=${maxBytes}
if passes $high; then echo $high; exit; fi
passes ${leastPathBytes} || { echo 0; exit; }
low=${leastPathBytes}
while [ $((high - low)) -gt 1 ]; do
  step=$(((high - low) / 9)); [ $step -gt 0 ] || step=1
  best=$(for n in 1 2 3 4 5 6 7 8; do
    size=$((low + n * step)); [ $size -lt $high ] || continue
    { passes $size && echo $size; } &
  done | sort -n | tail -n 1)
  best=\${best:-$low}
  next=$((best + step)); [ $next -lt $high ] && [ $best -lt $((low + 8 * step)) ] && high=$next
  low=$best
done
echo $low`;
  // In a session of its own: it may take seconds, and a cut-over must not wait behind it.
  const { stdout, stderr } = await shell.run(["sh", "-c", script], { timeoutMs: 60_000 });
  const bytes = Number(stdout.trim());
  if (stdout.trim() === "" || !Number.isInteger(bytes))
    throw new Fault("network.feature_missing", {
      host: shell.hostId,
      problem: `a path was not measured: ${lastLines(stderr)}`,
    });
  return bytes;
}
