/**
 * Which version of control groups schedules a host's processors: libvirt does not say, and passes numbers on that mean
 * ten times as much in one as in the other. A host that has both mounted schedules by the first. Knows no domains.
 */
import type { Ms } from "#model/units";
import { type HostShell, runOk } from "#shell/shell";

const askTimeoutMs: Ms = 30_000;

/** Asked once; after a failure again. */
export function controlGroupsOnHost(shell: HostShell): () => Promise<"v1" | "v2"> {
  let answer: Promise<"v1" | "v2"> | undefined;
  const ask = async () => {
    const argv = ["stat", "--file-system", "--format=%T", "/sys/fs/cgroup"];
    const { stdout } = await runOk(shell, argv, { timeoutMs: askTimeoutMs });
    return stdout.trim() === "cgroup2fs" ? "v2" : "v1";
  };
  return async () => {
    answer ??= ask();
    try {
      return await answer;
    } catch (error) {
      answer = undefined;
      throw error;
    }
  };
}
