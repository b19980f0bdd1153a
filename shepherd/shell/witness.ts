/**
 * A site's copy of the evidence log's checkpoints: a file on its hosts that only grows, written over their shells. The
 * first host that answers takes it; reading asks them all.
 */
import { Fault } from "#model/fault";
import type { SiteId } from "#model/units";
import type { Witness } from "#ports/witness";
import { type HostShell, runOk } from "#shell/shell";

/** Beside the host's claim (shell/claim.ts): where libvirt keeps what lasts. */
const hostFolder = "/var/lib/libvirt/drover";

/**
 * Standard input: the public key's lines, an empty line, then checkpoints. The shell's own `read` takes a byte at a time,
 * so that what follows is left to `cat`. Lets the older half go when it is large.
 */
const append = `set -eu
mkdir -p "$1"
cd "$1"
umask 077
while IFS= read -r line && [ -n "$line" ]; do printf '%s\\n' "$line"; done >key.new
if [ -e checkpoints.pub ]; then rm -f key.new; else mv key.new checkpoints.pub; fi
cat >>checkpoints
sync -d checkpoints 2>/dev/null || sync
if [ "$(wc -c <checkpoints)" -gt 8388608 ]; then
  tail -n 10000 checkpoints >checkpoints.new
  mv checkpoints.new checkpoints
fi`;

/** The key, an empty line, the checkpoints; nothing when there are none. */
const read = `set -eu
cd "$1" 2>/dev/null || exit 0
[ -e checkpoints ] || exit 0
sed '/^$/d' checkpoints.pub
echo
cat checkpoints`;

/** Of the hosts of one site. Faults `host.unreachable`, `shell.exit`, of the last host that was asked. */
export function createShellWitness(
  siteId: SiteId,
  shells: readonly HostShell[],
  folder = hostFolder,
): Witness {
  return {
    siteId,
    async append(lines, publicKey) {
      const input = `${publicKey.trim()}\n\n${lines.map((line) => `${line}\n`).join("")}`;
      let last: unknown = new Fault("host.unknown", { host: siteId });
      for (const shell of shells) {
        try {
          await runOk(shell, ["sh", "-c", append, "sh", folder], { input });
          return;
        } catch (error) {
          last = error;
        }
      }
      throw last;
    },
    async read() {
      const found = await Promise.allSettled(
        shells.map((shell) => runOk(shell, ["sh", "-c", read, "sh", folder])),
      );
      const answers = found.flatMap((one) =>
        one.status === "fulfilled" ? [one.value.stdout] : [],
      );
      const [refusal] = found.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
      if (answers.length === 0 && refusal !== undefined) throw refusal;
      const parts = answers
        .filter((text) => text !== "")
        .map((text) => {
          const cut = text.indexOf("\n\n");
          return { key: `${text.slice(0, cut).trim()}\n`, lines: text.slice(cut + 2).split("\n") };
        });
      return {
        publicKey: parts[0]?.key,
        lines: parts.flatMap(({ lines }) => lines.filter(Boolean)),
      };
    },
  };
}
