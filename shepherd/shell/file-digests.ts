/**
 * Digests of the ranges of a file, taken on the host by coreutils, so that a disk's bytes do not travel to be compared.
 * Absolute paths only; knows no pools. One process a range, at a low priority: guests come first.
 */
import { Fault } from "#model/fault";
import type { Bytes, Ms } from "#model/units";
import { type HostShell, runOk } from "#shell/shell";

/** Reads the whole file: minutes for a large one on a slow disk. */
const digestTimeoutMs: Ms = 30 * 60_000;

/** The size first, so that a file which grows meanwhile shows. */
const digest = `set -eu
stat -c %s "$1"
exec nice -n 10 split -b "$2" --filter='sha256sum' "$1"`;

export function digestsOnHost(
  shell: HostShell,
): (
  path: string,
  rangeBytes: Bytes,
) => Promise<{ readonly sizeBytes: Bytes; readonly digests: readonly string[] }> {
  return async (path, rangeBytes) => {
    const { stdout } = await runOk(shell, ["sh", "-c", digest, "sh", path, String(rangeBytes)], {
      timeoutMs: digestTimeoutMs,
    });
    const [size, ...lines] = stdout.trim().split("\n");
    const sizeBytes = Number(size);
    const digests = lines.map((line) => line.slice(0, 64));
    if (
      digests.length !== Math.ceil(sizeBytes / rangeBytes) ||
      digests.some((one) => !/^[0-9a-f]{64}$/.test(one))
    ) {
      throw new Fault("shell.unreadable", {
        host: shell.hostId,
        command: `split --filter=sha256sum ${path}`,
        problem: `${digests.length} digests of ${sizeBytes} bytes`,
      });
    }
    return { sizeBytes, digests };
  };
}
